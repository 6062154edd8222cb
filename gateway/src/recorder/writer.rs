//! Commits lines to the store, whatever it answers: the table of refusals is here.
//!
//! [`Writer::commit`] returns when each line is in the store or in the dead-letter file, and not
//! before: it waits as long as the store is away. So its caller may confirm what it handed over.

use std::path::PathBuf;

use tokio::sync::watch;

use super::dead::DeadLetters;
use super::store::{Refusal, Store};
use crate::mqtt::Backoff;

/// Most bytes in one request, to begin with; half of it after each 413.
pub const BODY_MAX: usize = 1024 * 1024;
/// Least bytes that a 413 may bring it down to; a single longer line is a dead letter.
const BODY_MIN: usize = 4 * 1024;

/// How the store is, for the board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Whether the last write was taken.
    pub up: bool,
    /// Why it was not.
    pub why: Option<String>,
    /// Lines committed since the start.
    pub committed: u64,
    /// Lines that the store refused for good; they are in the dead-letter file.
    pub dead_letters: u64,
    /// Of these, the ones that the disk did not take either.
    pub dead_letters_lost: u64,
    /// Records that wait to be written.
    pub behind: u64,
}

/// Commits lines, one request at a time.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    dead: DeadLetters,
    status: watch::Sender<StoreStatus>,
    backoff: Backoff,
    body_max: usize,
}

impl Writer {
    /// A writer to `store` whose refused lines go to the file `dead`.
    pub fn new(store: Store, dead: PathBuf) -> Self {
        Self {
            store,
            dead: DeadLetters::new(dead),
            status: watch::Sender::default(),
            backoff: Backoff::default(),
            body_max: BODY_MAX,
        }
    }

    /// How the store is, from now on.
    pub fn status(&self) -> watch::Receiver<StoreStatus> {
        self.status.subscribe()
    }

    /// A second hand on the status, for telling what waits while [`Writer::commit`] does.
    pub fn teller(&self) -> watch::Sender<StoreStatus> {
        self.status.clone()
    }

    /// Says how many records wait.
    pub fn set_behind(&self, behind: u64) {
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.behind, behind) != behind);
    }

    /// Keeps something that never became a line as a dead letter.
    pub fn refuse(&mut self, why: &str, what: &str) {
        self.dead.keep(why, what);
        self.status.send_modify(|status| {
            status.dead_letters = self.dead.refused;
            status.dead_letters_lost = self.dead.lost;
        });
    }

    /// Commits the lines; each ends with a newline.
    pub async fn commit(&mut self, lines: &[String]) {
        let mut work = vec![lines];
        while let Some(lines) = work.pop() {
            let bytes: usize = lines.iter().map(String::len).sum();
            if lines.is_empty() {
                continue;
            }
            if lines.len() > 1 && bytes > self.body_max {
                halve(&mut work, lines);
                continue;
            }
            match self.store.write(lines.concat()).await {
                Ok(()) => self.taken(lines.len()),
                Err(Refusal::BadLines(_)) if lines.len() > 1 => halve(&mut work, lines),
                Err(Refusal::BadLines(why)) => self.refuse(&why, &lines[0]),
                Err(Refusal::TooLarge) if lines.len() > 1 => {
                    self.body_max = (bytes / 2).clamp(BODY_MIN, BODY_MAX);
                    halve(&mut work, lines);
                }
                Err(why @ Refusal::TooLarge) => self.refuse(&why.to_string(), &lines[0]),
                Err(why) => {
                    work.push(lines);
                    self.wait(&why).await;
                }
            }
        }
    }

    fn taken(&mut self, lines: usize) {
        self.backoff.reset();
        self.status.send_modify(|status| {
            if !status.up {
                tracing::info!("the store takes lines");
            }
            status.up = true;
            status.why = None;
            status.committed += lines as u64;
        });
    }

    async fn wait(&mut self, why: &Refusal) {
        let why_text = why.to_string();
        self.status.send_modify(|status| {
            // Once per reason, not once per attempt.
            if status.why.as_ref() != Some(&why_text) {
                match why {
                    Refusal::Forbidden(_) => tracing::error!("{why_text}"),
                    _ => tracing::warn!("{why_text}"),
                }
            }
            status.up = false;
            status.why = Some(why_text);
        });
        tokio::time::sleep(self.backoff.pause()).await;
    }
}

/// Both halves back onto the pile, the first one on top, so that order is kept.
fn halve<'a>(work: &mut Vec<&'a [String]>, lines: &'a [String]) {
    let (first, second) = lines.split_at(lines.len() / 2);
    work.push(second);
    work.push(first);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::FakeStore;
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("andon,site=s value={n} {n}\n")).collect()
    }

    async fn writer(fake: &FakeStore) -> (Writer, PathBuf) {
        let dead = crate::recorder::fake::folder("writer").join("dead-letters.lp");
        let mut writer = Writer::new(Store::new(&fake.plan()).unwrap(), dead.clone());
        writer.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(4));
        (writer, dead)
    }

    #[tokio::test]
    async fn statuses_that_mean_later_are_tried_again_until_the_store_takes_them() {
        for status in [429, 500, 503, 401, 403, 404] {
            let fake = FakeStore::start(vec![status, status, status]).await;
            let (mut writer, dead) = writer(&fake).await;
            let mut seen = writer.status();
            writer.commit(&lines(3)).await;
            assert_eq!(fake.stored(), lines(3).concat(), "{status}");
            assert_eq!(fake.requests(), 4);
            assert!(!dead.exists());
            let seen = seen.borrow_and_update().clone();
            assert_eq!((seen.up, seen.committed, seen.dead_letters), (true, 3, 0));
        }
    }

    #[tokio::test]
    async fn while_the_store_is_away_the_status_says_why() {
        let fake = FakeStore::start(vec![401; 10_000]).await;
        let (mut writer, _) = writer(&fake).await;
        let mut status = writer.status();
        let batch = lines(1);
        tokio::select! {
            () = writer.commit(&batch) => panic!("committed without a store"),
            seen = status.wait_for(|status| status.why.is_some()) => {
                let seen = seen.unwrap();
                assert!(!seen.up);
                assert!(seen.why.as_deref().unwrap().contains("token"));
            }
        }
    }

    #[tokio::test]
    async fn a_bad_line_is_found_and_the_others_are_stored() {
        for status in [400, 422] {
            let fake = FakeStore::start(Vec::new()).await;
            fake.refuse("value=37 ", status);
            let (mut writer, dead) = writer(&fake).await;
            writer.commit(&lines(100)).await;
            let stored = fake.stored();
            let mut expected = lines(100);
            let bad = expected.remove(37);
            assert_eq!(stored, expected.concat(), "in order, each once");
            let letters = std::fs::read_to_string(&dead).unwrap();
            assert!(letters.contains(&bad) && letters.starts_with("# "), "{letters}");
            assert_eq!(writer.status().borrow().dead_letters, 1);
            std::fs::remove_file(&dead).unwrap();
        }
    }

    #[tokio::test]
    async fn too_large_a_request_is_halved_and_stays_small() {
        let fake = FakeStore::start(Vec::new()).await;
        fake.body_max(5000);
        let (mut writer, dead) = writer(&fake).await;
        writer.commit(&lines(1000)).await;
        assert_eq!(fake.stored(), lines(1000).concat());
        let first = fake.requests();
        writer.commit(&lines(1000)).await;
        assert!(fake.requests() - first < first, "the size was learned");
        assert!(!dead.exists());
    }

    #[tokio::test]
    async fn an_absent_store_is_waited_for() {
        let fake = FakeStore::start(Vec::new()).await;
        let plan = fake.plan();
        let fake = fake.stop().await;
        let mut writer =
            Writer::new(Store::new(&plan).unwrap(), crate::recorder::fake::folder("away"));
        writer.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(4));
        let mut status = writer.status();
        let committed = tokio::spawn(async move { writer.commit(&lines(2)).await });
        status.wait_for(|status| status.why.is_some()).await.unwrap();
        let fake = fake.restart().await;
        committed.await.unwrap();
        assert_eq!(fake.stored(), lines(2).concat());
    }

    #[test]
    fn nonsense_is_no_url() {
        for url in ["", "127.0.0.1:8086", "/3242/23", "ftp://x", "http://"] {
            let plan = crate::config::plan::StorePlan {
                url: url.into(),
                org: String::new(),
                bucket: String::new(),
                token: crate::config::plan::Secret::default(),
            };
            assert!(Store::new(&plan).is_err(), "{url}");
        }
    }
}
