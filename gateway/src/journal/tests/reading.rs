//! What was appended is read back: over restarts and boots, from any place, by whoever follows.

use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use andon_engine::event::{Activity, Event, Execution};
use andon_engine::time::BootTime;
use andon_engine::value::{Unavailable, Value};
use proptest::prelude::*;

use super::*;
use crate::config::plan::JournalPlan;
use crate::journal::{NotABootId, Position, segment};

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
fn the_next_boot_is_read_where_the_segment_of_a_position_cannot_be() {
    for unreadable in [false, true] {
        let folder = Folder::new("lost-place");
        let [one, two] = [BootId([1; 16]), BootId([2; 16])];
        for (boot, count) in [(one, 2000), (two, 4000)] {
            let journal = open(&folder, boot, SMALL, None);
            let value = |at: u64| 230.1 + (at % 90) as f64;
            for at in 0..2000 {
                journal.append(vec![observation(at * 1000, value(at))]);
            }
            follow_all(&journal, Stream::Telemetry, count);
        }
        let records = all(&folder, Stream::Telemetry);
        let last = records[1999].position();
        assert_eq!(last.boot, one);
        let telemetry = folder.path().join("telemetry");
        let numbers = segment::list(&telemetry).unwrap();
        let holds = |number: &u32| {
            let file = Arc::new(File::open(segment::path(&telemetry, *number)).unwrap());
            segment::inspect(&file, *number).unwrap().summary.reaches_back_to(last)
        };
        let place = numbers.iter().rposition(holds).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        let later = reader.newest(Stream::Telemetry, numbers.len() - place - 1).unwrap();
        let later: Vec<_> = later.collect();
        assert!(!later.is_empty() && later.iter().all(|record| record.boot == two));

        let journal = open(&folder, two, SMALL, None);
        let mut follower = journal.follow(Stream::Telemetry, Some(last));
        let mut read = reader.after(Stream::Telemetry, Some(last)).unwrap();
        let lost = segment::path(&telemetry, numbers[place]);
        fs::remove_file(&lost).unwrap();
        if unreadable {
            fs::create_dir(&lost).unwrap();
        } else {
            assert_eq!(follower.next(usize::MAX), later);
        }
        assert_eq!(read.by_ref().collect::<Vec<_>>(), later);
        assert_eq!(read.quarantined(), u64::from(unreadable));
    }
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
