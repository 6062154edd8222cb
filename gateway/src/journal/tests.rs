//! The journal's promises, each under the worst that can be done to its files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use andon_engine::event::{Activity, Event, Execution, Register};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use proptest::prelude::*;

use super::*;

pub(super) const BOOT: BootId = BootId([1; 16]);
const BIG: u64 = 256 * 1024;
/// Small enough for several segments in a test; a footer's reserve is most of it.
pub(super) const SMALL: u64 = 64 * 1024;

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("andon-journal-{name}-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn open(folder: &Folder, boot: BootId, segment: u64, total: Option<u64>) -> Journal {
    let sizes = [Sizes { segment, total }, Sizes { segment: BIG, total: None }];
    Journal::open_sized(folder.path(), sizes, Duration::from_secs(5), boot).unwrap()
}

pub(super) fn observation(at_ms: u64, value: f64) -> Payload {
    let items = vec![
        ("power.active".into(), Ok(Value::Number(value))),
        ("relay.1".into(), Ok(Value::Flag(at_ms.is_multiple_of(3)))),
        ("temperature".into(), Err(Unavailable::Timeout)),
    ];
    let at = BootTime::from_millis(at_ms);
    Payload::Observation(Observation { machine: "laser".into(), at, items })
}

pub(super) fn event(at_ms: u64) -> Payload {
    let register = Register { at: BootTime::from_millis(at_ms), wh: 12.5, epoch: 1 };
    Payload::Event(Event::Energy { machine: "kiln".into(), register })
}

fn all(folder: &Folder, stream: Stream) -> Vec<Record> {
    Reader::open(folder.path()).unwrap().records(stream).unwrap().collect()
}

fn payloads(records: &[Record]) -> Vec<Payload> {
    records.iter().map(|record| record.payload.clone()).collect()
}

/// The only segment of telemetry.
fn only_segment(folder: &Folder) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder.path().join("telemetry")).unwrap().collect();
    assert_eq!(files.len(), 1);
    files.remove(0).unwrap().path()
}

/// Polls for something that another thread will do.
pub(super) fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "nothing happened for 20 s");
        std::thread::yield_now();
    }
}

pub(super) fn follow_all(journal: &Journal, stream: Stream, count: usize) -> Vec<Record> {
    let mut follower = journal.follow(stream, None);
    let mut records = Vec::new();
    until(|| {
        records.extend(follower.next(100));
        records.len() >= count
    });
    records
}

#[test]
fn boot_ids_read_as_the_kernel_writes_them_and_nothing_else() {
    let text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    assert_eq!(text.parse::<BootId>().unwrap().to_string(), text);
    let long = format!("{text}0");
    for wrong in ["", "6ba7b810", "6ba7b8109dad11d180b400c04fd430c8", &long, &text[..35]] {
        assert_eq!(wrong.parse::<BootId>(), Err(NotABootId), "{wrong}");
    }
}

fn any_value() -> impl Strategy<Value = andon_engine::value::Measured> {
    prop_oneof![
        any::<f64>()
            .prop_filter("finite by contract", |number| number.is_finite())
            .prop_map(|number| Ok(Value::Number(number))),
        any::<i32>().prop_map(|cents| Ok(Value::Number(f64::from(cents) / 100.0))),
        any::<bool>().prop_map(|flag| Ok(Value::Flag(flag))),
        ".{0,12}".prop_map(|text| Ok(Value::Text(text.into()))),
        (0..Unavailable::ALL.len()).prop_map(|reason| Err(Unavailable::ALL[reason])),
    ]
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let items = prop::collection::vec(("[a-d]", any_value()), 0..6);
    let observation = ("[xyz]", any::<u64>(), items).prop_map(|(machine, at, items)| {
        let items = items.into_iter().map(|(item, value)| (item.into(), value)).collect();
        Payload::Observation(Observation { machine: machine.into(), at: BootTime(at), items })
    });
    let activity =
        (any::<u64>(), 0..5usize, any::<u64>()).prop_map(|(at, activity, raw_run_ms)| {
            Payload::Event(Event::Activity {
                machine: "ö".into(),
                at: BootTime(at),
                activity: Activity::ALL[activity],
                execution: Execution::Unknown,
                why: Some(Unavailable::Stale),
                raw_run_ms,
            })
        });
    prop_oneof![4 => observation, 1 => activity]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Against a plain list: appends, restarts, new boots, and reading on from anywhere.
    #[test]
    fn reads_back_what_was_appended(
        runs in prop::collection::vec(
            (prop::collection::vec(any_payload(), 0..40), any::<bool>()), 1..6),
        from in any::<prop::sample::Index>(),
    ) {
        let folder = Folder::new("model");
        let mut model: [Vec<Payload>; 2] = Default::default();
        let mut boot = 1;
        for (batch, reboot) in runs {
            boot += u8::from(reboot);
            let journal = open(&folder, BootId([boot; 16]), BIG, None);
            for payload in &batch {
                model[payload.stream() as usize].push(payload.clone());
            }
            journal.append(batch);
            for stream in Stream::ALL {
                let expected = &model[stream as usize];
                let records = follow_all(&journal, stream, expected.len());
                prop_assert_eq!(&payloads(&records), expected);
                prop_assert!(chained(&records));
                if records.is_empty() {
                    continue;
                }
                let place = from.index(records.len());
                let mut follower = journal.follow(stream, Some(records[place].position()));
                prop_assert_eq!(&follower.next(usize::MAX)[..], &records[place + 1..]);
                let behind = journal.behind(stream, Some(records[place].position()));
                prop_assert_eq!(behind, (records.len() - place - 1) as u64);
            }
            prop_assert_eq!(journal.counters().gaps, 0);
        }
        for stream in Stream::ALL {
            prop_assert_eq!(&payloads(&all(&folder, stream)), &model[stream as usize]);
        }
    }
}

/// Numbers ascend within a boot, and each record accounts for all since the one before.
fn chained(records: &[Record]) -> bool {
    records.windows(2).all(|pair| {
        let same = pair[0].boot == pair[1].boot;
        pair[1].prev == if same { pair[0].seq } else { 0 } && pair[1].seq > pair[1].prev
    })
}

/// A journal of `count` records in each stream, written one batch at a time.
fn small_journal(folder: &Folder, count: u64) -> Vec<Record> {
    let journal = open(folder, BOOT, SMALL, None);
    for at in 0..count {
        journal.append(vec![observation(at * 1000, 230.1), event(at)]);
    }
    follow_all(&journal, Stream::Events, usize::try_from(count).unwrap());
    follow_all(&journal, Stream::Telemetry, usize::try_from(count).unwrap())
}

#[test]
fn a_segment_cut_anywhere_opens_and_keeps_all_before_the_cut() {
    let folder = Folder::new("cut");
    let records = small_journal(&folder, 12);
    let file = only_segment(&folder);
    let whole = fs::read(&file).unwrap();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut kept_before = 0;
    for cut in 0..=written {
        for zeros in [0, whole.len() - cut] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + zeros, 0);
            fs::remove_dir_all(folder.path().join("telemetry")).unwrap();
            fs::create_dir_all(folder.path().join("telemetry")).unwrap();
            fs::write(&file, &bytes).unwrap();
            let journal = open(&folder, BOOT, SMALL, None);
            journal.append(vec![observation(1, 1.5)]);
            let mut follower = journal.follow(Stream::Telemetry, None);
            let mut seen: Vec<Record> = Vec::new();
            until(|| {
                seen.extend(follower.next(100));
                seen.last().is_some_and(|last| last.payload == observation(1, 1.5))
            });
            let kept = seen.len() - 1;
            assert_eq!(seen[..kept], records[..kept], "cut at {cut}");
            assert!(kept >= kept_before, "cut at {cut}: a longer file holds fewer records");
            assert!(seen[kept].seq > records[11].seq, "number used twice");
            let newest = journal.newest(Stream::Telemetry);
            assert_eq!(journal.behind(Stream::Telemetry, newest), 0);
            kept_before = kept;
        }
    }
    assert_eq!(kept_before, 12);
}

#[test]
fn any_flipped_bit_costs_one_block_at_most_and_is_counted() {
    let folder = Folder::new("flip");
    // Each run begins a block of its own.
    let blocks = 4;
    for run in 0..blocks {
        let journal = open(&folder, BOOT, SMALL, None);
        journal.append((0..3).map(|at| observation(run * 100 + at, 50.02)).collect());
    }
    let records = all(&folder, Stream::Telemetry);
    assert_eq!(records.len(), 12);
    let file = only_segment(&folder);
    let whole = fs::read(&file).unwrap();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for place in 0..written {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&file, &bytes).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        let seen: Vec<_> = reader.records(Stream::Telemetry).unwrap().collect();
        let lost: Vec<_> = records
            .iter()
            .map(|record| record.seq)
            .filter(|seq| seen.iter().all(|record| record.seq != *seq))
            .collect();
        assert!(!lost.is_empty() && lost.len() <= 3, "flip at {place} lost {lost:?}");
        assert!(lost.iter().all(|seq| seq >> 20 == lost[0] >> 20), "flip at {place}: {lost:?}");
        let journal = open(&folder, BootId([2; 16]), SMALL, None);
        assert_eq!(journal.counters().quarantined, 1, "flip at {place}");
        drop(journal);
    }
}

#[test]
fn numbers_are_never_used_twice_however_the_end_is_torn() {
    let rounds = env::var("ANDON_JOURNAL_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    let folder = Folder::new("reuse");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut used = std::collections::HashSet::new();
    for round in 0..rounds {
        let journal = open(&folder, BOOT, BIG, None);
        let count = 1 + random(30);
        let mut follower = journal.follow(Stream::Telemetry, None);
        while !follower.next(1000).is_empty() {}
        journal.append((0..count).map(|at| observation(at, 1.5)).collect());
        let mut seen = 0;
        until(|| {
            for record in follower.next(1000) {
                assert!(used.insert(record.seq), "round {round}: {} used twice", record.seq);
                seen += 1;
            }
            seen == count
        });
        drop(journal);
        let folder = folder.path().join("telemetry");
        let newest = segment::list(&folder).unwrap().pop().unwrap();
        let path = segment::path(&folder, newest);
        let written = fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let torn = random(200).min(written as u64);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(written as u64 - torn).unwrap();
        if random(2) == 0 {
            file.set_len(BIG).unwrap();
        }
    }
}

#[test]
fn full_segments_are_sealed_and_a_bad_footer_only_costs_time() {
    let folder = Folder::new("footer");
    let journal = open(&folder, BOOT, SMALL, None);
    for at in 0..4000 {
        journal.append(vec![observation(
            at * 1000,
            230.1 + f64::from(u32::try_from(at % 90).unwrap()),
        )]);
    }
    let records = follow_all(&journal, Stream::Telemetry, 4000);
    drop(journal);
    let telemetry = folder.path().join("telemetry");
    let numbers = segment::list(&telemetry).unwrap();
    assert!(numbers.len() > 3, "{numbers:?}");
    for number in &numbers[..numbers.len() - 1] {
        let path = segment::path(&telemetry, *number);
        let mut bytes = fs::read(&path).unwrap();
        assert!(segment::footer(&File::open(&path).unwrap()).is_some());
        let place = bytes.len() - 20;
        bytes[place] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }
    let journal = open(&folder, BOOT, SMALL, None);
    assert_eq!(journal.follow(Stream::Telemetry, None).next(usize::MAX), records);
    let middle = journal.follow(Stream::Telemetry, Some(records[1999].position())).next(5);
    assert_eq!(middle, records[2000..2005]);
}

#[test]
fn telemetry_stays_within_its_bound_and_what_nobody_read_is_counted() {
    let folder = Folder::new("recycle");
    let total = 4 * SMALL;
    let journal = open(&folder, BOOT, SMALL, Some(total));
    let mut reader = journal.cursor("recorder", Stream::Telemetry).unwrap();
    let mut slow = journal.follow(Stream::Telemetry, None);
    journal.append((0..100).map(|at| observation(at, 1.5)).collect());
    let first = follow_all(&journal, Stream::Telemetry, 100);
    reader.save(first[49].position()).unwrap();
    let behind = ("recorder".to_owned(), Stream::Telemetry, 50);
    assert_eq!(journal.consumers(), [behind]);
    assert_eq!(slow.next(10), first[..10]);
    let mut appended = 100;
    until(|| {
        journal.append((0..200).map(|at| observation(appended + at, at as f64 / 7.0)).collect());
        appended += 200;
        let written = journal.counters().written;
        until(|| journal.counters().written == appended || journal.counters().written > written);
        journal.counters().recycled_unread > 0
    });
    until(|| journal.counters().written == appended);
    let counters = journal.counters();
    let left = journal.follow(Stream::Telemetry, None).next(usize::MAX);
    let kept = left.len() as u64;
    assert_eq!(left[0].prev, 0);
    assert_eq!(counters.recycled_unread, appended - kept - 50);
    let held: u64 = fs::read_dir(folder.path().join("telemetry"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(held <= total + SMALL, "{held} bytes");
    // A follower whose place is gone goes on at the oldest and says so.
    let gone = journal.follow(Stream::Telemetry, Some(first[49].position())).next(1);
    assert_eq!((gone[0].seq, gone[0].prev), (left[0].seq, first[49].seq));
    assert_eq!(journal.counters().gaps, 1);
    let after = slow.next(usize::MAX);
    assert_eq!(after.last(), left.last());
    assert!(chained(&after));
}

#[test]
fn appending_goes_on_while_the_disk_refuses_and_nothing_bounded_is_lost() {
    let folder = Folder::new("refuse");
    let journal = open(&folder, BOOT, SMALL, None);
    journal.append((0..10).map(|at| observation(at, 1.5)).collect());
    follow_all(&journal, Stream::Telemetry, 10);
    // A file where the folder should be: no new segment can be made, the open one goes on.
    let (telemetry, aside) = (folder.path().join("telemetry"), folder.path().join("aside"));
    fs::rename(&telemetry, &aside).unwrap();
    fs::write(&telemetry, "in the way").unwrap();
    let mut appended = 10;
    until(|| {
        journal.append((0..100).map(|at| observation(appended + at, at as f64 / 7.0)).collect());
        appended += 100;
        journal.counters().failing.is_some()
    });
    assert!(journal.counters().failures > 0);
    journal.append(vec![event(1)]);
    assert_eq!(follow_all(&journal, Stream::Events, 1).len(), 1);
    fs::remove_file(&telemetry).unwrap();
    fs::rename(&aside, &telemetry).unwrap();
    // The event is written too; on a slow machine some observations found no room meanwhile.
    until(|| {
        let counters = journal.counters();
        counters.failing.is_none() && counters.written + counters.dropped > appended
    });
    let counters = journal.counters();
    let expected = usize::try_from(appended - counters.dropped).unwrap();
    assert_eq!(follow_all(&journal, Stream::Telemetry, expected).len(), expected);
    assert_eq!(journal.behind(Stream::Telemetry, None), expected as u64);
}

#[test]
fn what_is_behind_a_position_is_counted_over_leaps_boots_and_segments() {
    let folder = Folder::new("behind");
    let plan = JournalPlan { telemetry_bytes: 0, sync: Duration::from_secs(5) };
    let [one, two] = [BootId([1; 16]), BootId([2; 16])];
    for boot in [one, one, two] {
        let journal = Journal::open(folder.path(), &plan, boot).unwrap();
        let event = |at| Payload::Event(Event::Stopped { at: BootTime(at) });
        journal.append((0..10).map(event).collect());
        journal.close();
    }
    let journal = Journal::open(folder.path(), &plan, two).unwrap();
    let records: Vec<_> = journal.reader().unwrap().records(Stream::Events).unwrap().collect();
    assert_eq!(records.len(), 30);
    assert!(records[10].seq > records[9].seq + 1, "a reopened boot leaps");
    assert_eq!(journal.behind(Stream::Events, None), 30);
    for (count, record) in (1..).zip(&records) {
        assert_eq!(journal.behind(Stream::Events, Some(record.position())), 30 - count);
    }
    let unknown = Position { boot: BootId([9; 16]), seq: 5 };
    assert_eq!(journal.behind(Stream::Events, Some(unknown)), 30);
}

#[test]
fn a_write_that_fails_is_repeated_in_a_new_segment_under_new_numbers() {
    let folder = Folder::new("full");
    fs::create_dir_all(folder.path().join("telemetry")).unwrap();
    let shared = Arc::new(Shared::new(folder.path(), State::default()));
    let sizes = Sizes { segment: SMALL, total: None };
    let found = stock::take(&folder.path().join("telemetry")).unwrap();
    let mut writer = StreamWriter::new(Stream::Telemetry, BOOT, sizes, Arc::clone(&shared), found);
    let mut queue: std::collections::VecDeque<_> = [observation(1, 1.0)].into();
    writer.write(&mut queue, BootTime(0)).unwrap();
    writer.replace_file(File::options().write(true).open("/dev/full").unwrap());
    queue.extend([observation(2, 2.0), observation(3, 3.0)]);
    let error = writer.write(&mut queue, BootTime(0)).unwrap_err();
    let cut = segment::path(&folder.path().join("telemetry"), 1);
    assert_eq!(fs::metadata(cut).unwrap().len(), shared.state().segments[0][0].end);
    assert_eq!((error.kind(), queue.len()), (io::ErrorKind::StorageFull, 2));
    writer.write(&mut queue, BootTime(0)).unwrap();
    let records = Follower::new(Stream::Telemetry, &shared, None).next(10);
    let numbers: Vec<_> = records.iter().map(|record| (record.prev, record.seq)).collect();
    assert_eq!(numbers, [(0, 1), (1, 4), (4, 5)]);
}

#[test]
fn the_queue_is_bounded_and_drops_the_oldest() {
    let mut inbox = super::shared::Inbox::default();
    let extra = 7;
    let bound = super::shared::TELEMETRY_QUEUE_MAX as u64;
    inbox.queues[0].extend((0..bound + extra).map(|at| observation(at, 1.0)));
    inbox.queues[1].push_back(event(1));
    assert_eq!(inbox.trim(), [extra, 0]);
    assert_eq!(inbox.queues[0].front(), Some(&observation(extra, 1.0)));
    assert_eq!(inbox.queues[1].len(), 1);
}

#[test]
fn a_second_gateway_is_turned_away_and_a_reader_is_not() {
    let folder = Folder::new("lock");
    let journal = open(&folder, BOOT, SMALL, None);
    let sizes = [Sizes { segment: SMALL, total: None }; 2];
    let second = Journal::open_sized(folder.path(), sizes, Duration::from_secs(5), BOOT);
    assert!(second.unwrap_err().to_string().contains("another gateway is running"));
    journal.append(vec![event(1)]);
    follow_all(&journal, Stream::Events, 1);
    assert_eq!(payloads(&all(&folder, Stream::Events)), [event(1)]);
    drop(journal);
    open(&folder, BOOT, SMALL, None);
}

#[test]
fn a_record_too_long_for_a_frame_is_refused_and_its_neighbours_are_kept() {
    let folder = Folder::new("long");
    let journal = open(&folder, BOOT, 8 * BIG, None);
    let text: Arc<str> = "x".repeat(300 * 1024).into();
    let long = Payload::Observation(Observation {
        machine: "laser".into(),
        at: BootTime(1),
        items: vec![("state".into(), Ok(Value::Text(text)))],
    });
    journal.append(vec![observation(1, 1.0), long, observation(2, 2.0)]);
    let records = follow_all(&journal, Stream::Telemetry, 2);
    assert_eq!(payloads(&records), [observation(1, 1.0), observation(2, 2.0)]);
    assert_eq!((journal.counters().dropped, records[1].seq), (1, 2));
}

#[tokio::test]
async fn a_follower_wakes_for_what_is_appended() {
    let folder = Folder::new("ready");
    let journal = open(&folder, BOOT, SMALL, None);
    let mut follower = journal.follow(Stream::Events, None);
    for at in 0..20 {
        journal.append(vec![event(at)]);
        let wait = tokio::time::timeout(Duration::from_secs(20), follower.ready());
        wait.await.expect("woken");
        assert_eq!(payloads(&follower.next(10)), [event(at)]);
    }
}

#[test]
fn a_large_shop_does_not_name_all_its_items_again_with_every_observation() {
    const MACHINES: u64 = 400;
    let items: Vec<Arc<str>> = (0..30).map(|item| format!("temperature.{item}").into()).collect();
    let machine = |machine: u64, round: u64| {
        let number = |at: usize| 20.0 + f64::from(u32::try_from(at).unwrap()) / 10.0;
        let values = items.iter().enumerate();
        let items =
            values.map(|(at, item)| (item.clone(), Ok(Value::Number(number(at))))).collect();
        let machine = format!("machine-{machine}").into();
        Payload::Observation(Observation {
            machine,
            at: BootTime::from_millis(round * 1000),
            items,
        })
    };
    let bytes = |rounds: u64| {
        let folder = Folder::new("large");
        let journal = open(&folder, BOOT, 4 * 1024 * 1024, None);
        let all = (1..=rounds).flat_map(|round| (0..MACHINES).map(move |it| (it, round)));
        let written: Vec<_> = all.map(|(it, round)| machine(it, round)).collect();
        journal.append(written.clone());
        while journal.counters().written < MACHINES * rounds {
            std::thread::yield_now();
        }
        let bytes = journal.counters().bytes;
        journal.close();
        assert_eq!(payloads(&telemetry(&folder)), written);
        bytes
    };
    let (once, often) = (bytes(1), bytes(8));
    assert!(once > 64 * 1024, "one round is more than an ordinary block: {once}");
    assert!(often < 5 * once, "{once} bytes for a round, {often} for eight");
}

fn telemetry(folder: &Folder) -> Vec<Record> {
    all(folder, Stream::Telemetry)
}
