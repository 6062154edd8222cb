//! Readings on their way from the buses of the shared thread to the engine, handed over several
//! at a time: to wake the engine's thread, and everybody behind it, costs more than to step it.
//!
//! What a stop waits for does not come here (`group` says what that is), and whoever adds holds a
//! place in the engine's queue already: nothing here waits, fails or grows beyond that queue.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::OwnedPermit;

use super::Delivery;

/// Longest that a reading waits for others: less than the journal gathers for.
const GATHER: Duration = Duration::from_millis(5);
/// Deliveries that are handed over without waiting for more.
const GATHERED: usize = 32;

/// Deliveries with their places in the engine's queue.
type Waiting = Vec<(OwnedPermit<Delivery>, Delivery)>;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Gather {
    waiting: Mutex<Waiting>,
    /// There is something.
    some: Notify,
}

impl Gather {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery along.
    pub(super) fn add(&self, place: OwnedPermit<Delivery>, delivery: Delivery) {
        let mut waiting = self.lock();
        waiting.push((place, delivery));
        match waiting.len() {
            1 => self.some.notify_one(),
            GATHERED.. => hand_over(&mut waiting),
            _ => {}
        }
    }

    /// Hands over what has waited long enough, for ever.
    pub(super) async fn run(&self) {
        loop {
            self.some.notified().await;
            tokio::time::sleep(GATHER).await;
            hand_over(&mut self.lock());
        }
    }
}

fn hand_over(waiting: &mut Waiting) {
    for (place, delivery) in waiting.drain(..) {
        place.send(delivery);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use andon_engine::time::BootTime;
    use tokio::sync::mpsc;

    use super::*;

    fn delivery(at: u64) -> Delivery {
        Delivery { at: BootTime(at), readings: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn readings_are_handed_over_in_order_when_they_have_waited_or_are_many() {
        let (sink, mut engine) = mpsc::channel(2 * GATHERED);
        let gather = Arc::new(Gather::default());
        let running = Arc::clone(&gather);
        tokio::spawn(async move { running.run().await });
        let place = async || sink.clone().reserve_owned().await.unwrap();
        gather.add(place().await, delivery(1));
        gather.add(place().await, delivery(2));
        assert!(engine.try_recv().is_err(), "others may come along");
        let before = tokio::time::Instant::now();
        assert_eq!(engine.recv().await, Some(delivery(1)));
        assert_eq!(engine.try_recv(), Ok(delivery(2)));
        assert!(before.elapsed() <= 2 * GATHER, "{:?}", before.elapsed());
        for at in 0..GATHERED as u64 {
            gather.add(place().await, delivery(at));
        }
        for at in 0..GATHERED as u64 {
            assert_eq!(engine.try_recv(), Ok(delivery(at)), "enough came at once");
        }
    }
}
