//! Readings on their way from the buses of the shared thread to the engine, which takes several
//! at a time: to wake its thread, and everybody behind it, costs more than to step it.
//!
//! What a stop waits for does not come here (`group` says what that is), and whoever adds holds a
//! place in the engine's queue, which is free again when the engine has taken the reading: nothing
//! here waits, fails or grows beyond that queue.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::OwnedPermit;

use super::Delivery;

/// Longest that a reading waits for others: less than the journal gathers for.
const GATHER: Duration = Duration::from_millis(5);
/// Deliveries that wait for no more.
const GATHERED: usize = 32;

/// Deliveries on their way.
#[derive(Debug, Default)]
struct Waiting {
    /// With their places in the engine's queue.
    deliveries: Vec<(OwnedPermit<Delivery>, Delivery)>,
    /// They are many, or have waited long enough.
    ripe: bool,
}

/// What is on its way.
#[derive(Debug, Default)]
pub struct Gather {
    waiting: Mutex<Waiting>,
    /// There is something.
    some: Notify,
    /// It is to be taken.
    ripe: Notify,
}

impl Gather {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery along.
    pub(super) fn add(&self, place: OwnedPermit<Delivery>, delivery: Delivery) {
        let mut waiting = self.lock();
        waiting.deliveries.push((place, delivery));
        match waiting.deliveries.len() {
            1 => self.some.notify_one(),
            GATHERED.. => self.ripen(waiting),
            _ => {}
        }
    }

    /// Says when what is there has waited long enough, for ever.
    pub(super) async fn run(&self) {
        loop {
            self.some.notified().await;
            tokio::time::sleep(GATHER).await;
            self.ripen(self.lock());
        }
    }

    fn ripen(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if !waiting.deliveries.is_empty() && !std::mem::replace(&mut waiting.ripe, true) {
            // Whoever is woken wants the lock.
            drop(waiting);
            self.ripe.notify_one();
        }
    }

    /// Waits until there is enough, and takes `most` at most, the first ones. Safe to cancel; for
    /// one taker.
    pub async fn take(&self, most: usize, taken: &mut Vec<Delivery>) {
        while !self.take_ripe(most, taken) {
            self.ripe.notified().await;
        }
    }

    /// [`Gather::take`] without waiting; `false` when there is not enough.
    pub fn take_ripe(&self, most: usize, taken: &mut Vec<Delivery>) -> bool {
        let waiting = self.lock();
        let ripe = waiting.ripe;
        if ripe {
            take(waiting, most, taken);
        }
        ripe
    }

    /// Takes whatever is there.
    pub fn take_all(&self) -> Vec<Delivery> {
        let mut taken = Vec::new();
        take(self.lock(), usize::MAX, &mut taken);
        taken
    }
}

fn take(mut waiting: MutexGuard<'_, Waiting>, most: usize, taken: &mut Vec<Delivery>) {
    let count = most.min(waiting.deliveries.len());
    taken.extend(waiting.deliveries.drain(..count).map(|(_place, delivery)| delivery));
    waiting.ripe &= !waiting.deliveries.is_empty();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use andon_engine::time::BootTime;
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;

    use super::*;

    fn delivery(at: u64) -> Delivery {
        Delivery { at: BootTime(at), readings: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn readings_are_taken_in_order_when_they_have_waited_or_are_many() {
        let (sink, _engine) = mpsc::channel(2 * GATHERED);
        let gather = Arc::new(Gather::default());
        let running = Arc::clone(&gather);
        tokio::spawn(async move { running.run().await });
        let place = async || sink.clone().reserve_owned().await.unwrap();
        gather.add(place().await, delivery(1));
        gather.add(place().await, delivery(2));
        let mut taken = Vec::new();
        assert!(gather.take(9, &mut taken).now_or_never().is_none(), "others may come along");
        let before = tokio::time::Instant::now();
        gather.take(9, &mut taken).await;
        assert_eq!(taken, [delivery(1), delivery(2)]);
        assert!(before.elapsed() <= 2 * GATHER, "{:?}", before.elapsed());
        let many: Vec<Delivery> = (0..GATHERED as u64).map(delivery).collect();
        for delivery in &many {
            gather.add(place().await, delivery.clone());
        }
        taken.clear();
        let at_once = |most, taken: &mut Vec<_>| gather.take(most, taken).now_or_never();
        assert!(at_once(9, &mut taken).is_some(), "enough came at once");
        assert_eq!(taken, many[..9], "no more than asked for");
        assert!(at_once(GATHERED, &mut taken).is_some(), "the rest waits no longer");
        assert_eq!(taken, many);
        assert!(at_once(9, &mut taken).is_none());
    }

    #[tokio::test]
    async fn a_place_in_the_queue_is_free_again_when_its_reading_is_taken() {
        let (sink, _engine) = mpsc::channel(1);
        let gather = Gather::default();
        gather.add(sink.clone().reserve_owned().await.unwrap(), delivery(1));
        assert!(sink.clone().try_reserve_owned().is_err());
        assert_eq!(gather.take_all(), [delivery(1)]);
        assert!(sink.clone().try_reserve_owned().is_ok());
    }
}
