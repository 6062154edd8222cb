//! The recorder in the gateway's process: a cursor in the journal, moved by the store's 2xx.
//!
//! No broker in its path. While the store is away it holds nothing but a place in the journal.
//! Records of this boot wait for its wall time; a boot that ended without one is passed over,
//! because no store could place its records.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Store, StoreStatus, Writer, line_of};
use crate::config::plan::StorePlan;
use crate::journal::{BootId, Cursor, Follower, Journal, Position, Record, Stream};
use crate::mqtt::{WallClock, record_wall_ms};

/// Records written in one go.
const BATCH_MAX: usize = 2000;
/// How often the journal is looked at: what is measured is in the store within a second.
const TICK: Duration = Duration::from_millis(500);
/// How often it is told how much waits, while the store does not answer.
const TELL: Duration = Duration::from_secs(1);
/// How often cursors are saved.
const SAVE: Duration = Duration::from_secs(5);
/// The name of this consumer's cursors.
const CONSUMER: &str = "store";

/// What the recorder is given.
#[derive(Clone)]
pub struct EmbeddedInputs {
    /// The store.
    pub store: StorePlan,
    /// The site's id, a tag of every line.
    pub site: Arc<str>,
    /// This boot.
    pub boot: BootId,
    /// What is recorded.
    pub journal: Arc<Journal>,
    /// Wall time of moments.
    pub wall: WallClock,
    /// The file for lines that the store refuses for good.
    pub dead_letters: PathBuf,
}

/// The running recorder.
#[derive(Debug)]
pub struct EmbeddedHandle {
    status: watch::Receiver<StoreStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EmbeddedHandle {
    /// How the store is.
    pub fn status(&self) -> StoreStatus {
        self.status.borrow().clone()
    }

    /// How the store is, from now on.
    pub fn watch(&self) -> watch::Receiver<StoreStatus> {
        self.status.clone()
    }

    /// Saves the cursors and ends; what is not written yet is written after the next start.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Starts the recorder.
///
/// # Errors
/// When the store's URL is none or the cursors cannot be opened.
pub fn start(inputs: EmbeddedInputs) -> anyhow::Result<EmbeddedHandle> {
    let [telemetry, events] = Stream::ALL.map(|stream| inputs.journal.cursor(CONSUMER, stream));
    let writer = Writer::new(Store::new(&inputs.store)?, inputs.dead_letters.clone());
    let status = writer.status();
    let (stop, stopped) = watch::channel(false);
    let recorder = Recorder::new(inputs, [telemetry?, events?], writer);
    let task = tokio::spawn(recorder.run(stopped));
    Ok(EmbeddedHandle { status, stop, task })
}

/// One stream's place.
struct Place {
    follower: Follower,
    /// Read, not yet committed.
    buffer: VecDeque<Record>,
    position: Option<Position>,
}

struct Recorder {
    inputs: EmbeddedInputs,
    writer: Writer,
    cursors: Option<[Cursor; 2]>,
    places: [Place; 2],
    undated: u64,
}

impl Recorder {
    fn new(inputs: EmbeddedInputs, cursors: [Cursor; 2], writer: Writer) -> Self {
        let places = Stream::ALL.map(|stream| {
            let position = cursors[stream as usize].position();
            let follower = inputs.journal.follow(stream, position);
            Place { follower, buffer: VecDeque::new(), position }
        });
        Self { inputs, writer, cursors: Some(cursors), places, undated: 0 }
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            // Events first: they are few and matter most.
            for stream in [Stream::Events, Stream::Telemetry] {
                tokio::select! {
                    () = self.drain(stream) => {}
                    _ = stop.wait_for(|stop| *stop) => break,
                }
            }
            if saved.elapsed() >= SAVE {
                saved = Instant::now();
                self.save().await;
            }
        }
        self.save().await;
    }

    /// Writes what the stream has now, one batch after another, at most until the next save.
    async fn drain(&mut self, stream: Stream) {
        let until = Instant::now() + SAVE;
        while Instant::now() < until {
            let place = &mut self.places[stream as usize];
            let room = BATCH_MAX.saturating_sub(place.buffer.len());
            place.buffer.extend(place.follower.next(room));
            let (lines, taken) = self.lines(stream);
            if taken == 0 {
                break;
            }
            let positions = self.places.each_ref().map(|place| place.position);
            let teller = self.writer.teller();
            tokio::select! {
                () = self.writer.commit(&lines) => {}
                () = keep_telling(&self.inputs.journal, positions, &teller) => {}
            }
            // Only now: were this future dropped before, the records would still be buffered.
            let place = &mut self.places[stream as usize];
            place.position = place.buffer.drain(..taken).next_back().map(|last| last.position());
        }
        let positions = self.places.each_ref().map(|place| place.position);
        self.writer.set_behind(behind(&self.inputs.journal, positions));
    }

    /// The lines of the buffered records up to the first that waits for its wall time, and how
    /// many records they are.
    fn lines(&mut self, stream: Stream) -> (Vec<String>, usize) {
        let (mut lines, mut taken) = (Vec::new(), 0);
        for record in &self.places[stream as usize].buffer {
            match record_wall_ms(&self.inputs.wall, record) {
                Some(t) => lines.extend(line_of(&self.inputs.site, record, t)),
                None if record.boot == self.inputs.boot => break,
                None => {
                    self.undated += 1;
                    let undated = self.undated;
                    tracing::debug!(boot = %record.boot, undated, "a record will never have a time");
                }
            }
            taken += 1;
        }
        (lines, taken)
    }

    /// Saves on a thread that may wait for the disk.
    async fn save(&mut self) {
        let positions = [self.places[0].position, self.places[1].position];
        let Some(mut cursors) = self.cursors.take() else { return };
        let saving = tokio::task::spawn_blocking(move || {
            for (cursor, position) in cursors.iter_mut().zip(positions) {
                let Some(position) = position else { continue };
                if let Err(error) = cursor.save(position) {
                    tracing::error!(%error, "the place in the journal could not be saved");
                }
            }
            cursors
        });
        self.cursors = saving.await.ok();
    }
}

/// Records that the store has not committed.
fn behind(journal: &Journal, positions: [Option<Position>; 2]) -> u64 {
    Stream::ALL.map(|stream| journal.behind(stream, positions[stream as usize])).iter().sum()
}

/// Says how much waits, for as long as it is awaited: the store may be away for days.
async fn keep_telling(
    journal: &Journal,
    positions: [Option<Position>; 2],
    status: &watch::Sender<StoreStatus>,
) {
    let mut tick = interval(TELL);
    loop {
        tick.tick().await;
        let behind = behind(journal, positions);
        status.send_if_modified(|status| std::mem::replace(&mut status.behind, behind) != behind);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use andon_engine::event::Event;
    use andon_engine::time::BootTime;
    use andon_engine::value::Value;

    use super::super::fake::{FakeStore, folder};
    use super::*;
    use crate::clock::Anchors;
    use crate::config::plan::JournalPlan;
    use crate::journal::{Observation, Payload};

    const BOOT: BootId = BootId([7; 16]);
    const NOON: i64 = 1_790_000_000_000;

    fn journal() -> Arc<Journal> {
        let plan = JournalPlan { telemetry_bytes: 64 << 20, sync: Duration::from_secs(5) };
        Arc::new(Journal::open(&folder("embedded"), &plan, BOOT).unwrap())
    }

    fn observations(journal: &Journal, range: std::ops::Range<u64>) {
        journal.append(
            range
                .map(|n| {
                    let items = vec![("power.active".into(), Ok(Value::Number(n as f64)))];
                    let at = BootTime::from_millis(n * 1000);
                    Payload::Observation(Observation { machine: "laser".into(), at, items })
                })
                .collect(),
        );
    }

    fn inputs(
        journal: &Arc<Journal>,
        fake: &FakeStore,
        anchors: &Arc<Mutex<Anchors>>,
    ) -> EmbeddedInputs {
        let anchors = Arc::clone(anchors);
        EmbeddedInputs {
            store: fake.plan(),
            site: "shop".into(),
            boot: BOOT,
            journal: Arc::clone(journal),
            wall: Arc::new(move |boot, at| anchors.lock().unwrap().wall_ms(boot, at)),
            dead_letters: folder("embedded-dead").join("letters.lp"),
        }
    }

    fn anchor(anchors: &Mutex<Anchors>) {
        let event = Event::Clock { at: BootTime(0), wall_ms: NOON };
        anchors.lock().unwrap().note(BOOT, &event);
    }

    async fn committed(handle: &EmbeddedHandle, lines: u64) {
        let mut watch = handle.watch();
        let done = watch.wait_for(|status| status.committed >= lines);
        tokio::time::timeout(Duration::from_secs(20), done).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_waits_is_told_while_the_store_is_away() {
        let (journal, fake) = (journal(), FakeStore::start(Vec::new()).await);
        let anchors = Arc::new(Mutex::new(Anchors::default()));
        anchor(&anchors);
        let inputs = inputs(&journal, &fake, &anchors);
        let fake = fake.stop().await;
        observations(&journal, 0..7);
        let recorder = start(inputs).unwrap();
        let mut watch = recorder.watch();
        for (range, behind) in [(0..0, 7), (7..12, 12)] {
            observations(&journal, range);
            let told = watch.wait_for(|status| !status.up && status.behind == behind);
            tokio::time::timeout(Duration::from_secs(20), told).await.unwrap().unwrap();
        }
        let _fake = fake.restart().await;
        committed(&recorder, 12).await;
        watch.wait_for(|status| status.up && status.behind == 0).await.unwrap();
        recorder.stop().await;
    }

    #[tokio::test]
    async fn records_wait_for_the_wall_time_and_are_written_once_over_restarts() {
        let (journal, fake) = (journal(), FakeStore::start(vec![503]).await);
        let anchors = Arc::new(Mutex::new(Anchors::default()));
        observations(&journal, 0..5000);
        let first = start(inputs(&journal, &fake, &anchors)).unwrap();
        let mut watch = first.watch();
        watch.wait_for(|status| status.behind > 0).await.unwrap();
        assert_eq!(fake.requests(), 0, "nothing is written without a time");
        anchor(&anchors);
        committed(&first, 5000).await;
        first.stop().await;
        observations(&journal, 5000..5003);
        let second = start(inputs(&journal, &fake, &anchors)).unwrap();
        committed(&second, 3).await;
        second.stop().await;
        let stored = fake.stored();
        let lines: Vec<_> = stored.lines().collect();
        assert_eq!(lines.len(), 5003);
        for (n, line) in (0i64..).zip(lines) {
            let t = NOON + n * 1000;
            assert_eq!(line, format!("andon,site=shop,machine=laser power.active={n} {t}"));
        }
    }
}
