//! What is heard here was recorded from Moonraker 0.11.0 with `tests/peers/klippy.py` behind it
//! (`replies.txt`: a name and a frame per line; the list of components cut).

use expect_test::expect;

use andon_engine::event::Execution;

use super::picture::execution;
use super::*;
use crate::protocol::Settings;
use crate::trial::{all_missing, said, step, survives, told};

const REPLIES: &str = include_str!("replies.txt");

/// A recorded frame, as the answer to the question with this id.
fn recorded(name: &str, id: u64) -> String {
    let mut lines = REPLIES.lines().filter_map(|line| line.split_once(' '));
    let frame = lines.find(|(known, _)| *known == name).expect("a recorded frame").1;
    match frame.rsplit_once(",\"id\":") {
        Some((before, _)) => format!("{before},\"id\":{id}}}"),
        None => frame.to_owned(),
    }
}

fn device() -> Box<dyn Device> {
    let options = vec![("chamber", "true".to_owned())];
    (PROTOCOL.device)(&Settings { options, ..Settings::default() }).unwrap()
}

/// The calls among what is to be sent: method and id.
fn calls(out: &Outbox) -> Vec<(String, u64)> {
    let call = |outgoing: &Outgoing| match outgoing {
        Outgoing::Frame(frame) => {
            let call: Json = serde_json::from_str(frame).unwrap();
            Some((call["method"].as_str().unwrap().to_owned(), call["id"].as_u64().unwrap()))
        }
        _ => None,
    };
    out.sends.iter().filter_map(call).collect()
}

/// Hears a recorded frame, as the answer to `out`'s only call.
fn answer(device: &mut dyn Device, out: &Outbox, name: &str) -> Outbox {
    let calls = calls(out);
    assert_eq!(calls.len(), 1, "{calls:?}");
    step(device, 1, Heard::Frame(&recorded(name, calls[0].1)))
}

/// A device that has got as far as the subscription, answered with `name`.
fn live(name: &str) -> (Box<dyn Device>, Outbox) {
    let mut device = device();
    let mut out = step(&mut *device, 0, Heard::Opened);
    for name in ["server.ready", "objects", name] {
        out = answer(&mut *device, &out, name);
    }
    (device, out)
}

#[test]
fn a_printer_at_rest_is_told_whole() {
    let (_, out) = live("standby");
    assert!(out.alive && out.trouble.is_none());
    expect![[r#"
        controller.state standby
        execution ready
        filament.used 0
        job.elapsed 0
        job.layer (sentinel)
        job.layers (sentinel)
        job.name (sentinel)
        message (sentinel)
        override.feed 1
        progress 0
        temperature.bed 21
        temperature.chamber 30.5
        temperature.nozzle 21.5
        temperature.target.bed 0
        temperature.target.nozzle 0
    "#]]
    .assert_eq(&told(&out));
}

#[test]
fn a_job_is_told_whole() {
    let (_, out) = live("running");
    expect![[r#"
        controller.state printing
        execution running
        filament.used 12.5
        job.elapsed 60
        job.layer 3
        job.layers 40
        job.name benchy.gcode
        message (sentinel)
        override.feed 1
        progress 0.25
        temperature.bed 21
        temperature.chamber 30.5
        temperature.nozzle 209.5
        temperature.target.bed 0
        temperature.target.nozzle 210
    "#]]
    .assert_eq(&told(&out));
}

#[test]
fn each_recorded_state_is_what_the_table_says() {
    for (name, execution, word) in [
        ("standby", "ready", "standby"),
        ("preparing", "preparing", "printing"),
        ("running", "running", "printing"),
        ("paused", "paused", "paused"),
        ("cancelled", "ready", "cancelled"),
        ("complete", "finished", "complete"),
        ("error", "fault", "error"),
        ("stopped", "stopped", "shutdown"),
        ("thermal", "fault", "shutdown"),
        ("standby.again", "ready", "standby"),
    ] {
        let said = said(&live(name).1);
        assert_eq!((&*said["execution"], &*said["controller.state"]), (execution, word), "{name}");
    }
    // The recording itself holds the trap: a printer that is shut down "prints" on.
    assert!(recorded("stopped", 1).contains(r#""state":"printing""#));
    let message = &said(&live("thermal").1)["message"];
    assert!(message.starts_with("Heater extruder not heating at expected rate Once"), "{message}");
}

/// The table in the file's head, row by row.
#[test]
fn words_mean_what_the_table_says() {
    use Execution as E;
    let estop = "Shutdown due to webhooks request\nOnce the";
    for (host, message, job, used, expected) in [
        ("startup", "", "printing", None, None),
        ("error", "", "standby", None, Some(E::Fault)),
        ("shutdown", estop, "printing", None, Some(E::Stopped)),
        ("shutdown", "Shutdown due to M112 command", "standby", None, Some(E::Stopped)),
        ("shutdown", "Lost communication with MCU 'mcu'", "printing", None, Some(E::Fault)),
        ("ready", "", "standby", None, Some(E::Ready)),
        ("ready", "", "printing", Some(0.0), Some(E::Preparing)),
        ("ready", "", "printing", Some(0.1), Some(E::Running)),
        ("ready", "", "printing", None, Some(E::Running)),
        ("ready", "", "paused", Some(0.0), Some(E::Paused)),
        ("ready", "", "complete", None, Some(E::Finished)),
        ("ready", "", "cancelled", None, Some(E::Ready)),
        ("ready", "", "error", None, Some(E::Fault)),
        ("ready", "", "", None, None),
        ("ready", "", "baking", None, None),
        ("", "", "printing", None, None),
    ] {
        assert_eq!(execution(host, message, job, used), expected, "{host} {job}");
    }
}

#[test]
fn changes_are_merged_and_only_they_are_said() {
    let (mut device, _) = live("standby");
    let hear = |device: &mut dyn Device, name| step(device, 2, Heard::Frame(&recorded(name, 0)));
    let out = hear(&mut *device, "change.target");
    assert_eq!(told(&out), "temperature.nozzle 21.5\ntemperature.target.nozzle 210\n");
    let heating = said(&hear(&mut *device, "change.printing"));
    assert_eq!(heating["execution"], "preparing");
    assert!(!heating.contains_key("temperature.bed"), "{heating:?}");
    let printing = said(&hear(&mut *device, "change.extruded"));
    assert_eq!((&*printing["execution"], &*printing["progress"]), ("running", "0.25"));
}

#[test]
fn every_period_asks_for_the_whole_picture() {
    let (mut device, _) = live("standby");
    let out = step(&mut *device, 2, Heard::Due);
    assert_eq!(calls(&out)[0].0, "printer.objects.query");
    assert!(out.said.is_empty(), "nothing has been confirmed yet");
    let out = answer(&mut *device, &out, "running");
    assert_eq!(said(&out).len(), device.items().len());
}

#[test]
fn only_objects_that_the_printer_has_are_asked_for() {
    let mut device = device();
    let out = step(&mut *device, 0, Heard::Opened);
    let out = answer(&mut *device, &out, "server.ready");
    let id = calls(&out)[0].1;
    let objects = r#"["webhooks","print_stats","extruder","temperature_fan chamber"]"#;
    let frame = format!(r#"{{"jsonrpc":"2.0","result":{{"objects":{objects}}},"id":{id}}}"#);
    let out = step(&mut *device, 0, Heard::Frame(&frame));
    let Some(Outgoing::Frame(call)) = out.sends.first() else { panic!("{out:?}") };
    let call: Json = serde_json::from_str(call).unwrap();
    let asked: Vec<_> = call["params"]["objects"].as_object().unwrap().keys().collect();
    assert_eq!(asked, ["extruder", "print_stats", "temperature_fan chamber", "webhooks"]);
}

#[test]
fn klipper_may_come_late_and_is_asked_for_until_it_does() {
    let mut device = device();
    let out = step(&mut *device, 0, Heard::Opened);
    let out = answer(&mut *device, &out, "server.disconnected");
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
    assert!(out.trouble.is_some_and(|words| words.contains("Klipper is not connected")));
    let out = step(&mut *device, 2, Heard::Due);
    let out = answer(&mut *device, &out, "server.startup");
    let starting = said(&out);
    assert_eq!((&*starting["execution"], &*starting["controller.state"]), ("(not_yet)", "startup"));
    let out = step(&mut *device, 4, Heard::Due);
    let out = answer(&mut *device, &out, "server.ready");
    assert_eq!(calls(&out)[0].0, "printer.objects.list");
}

#[test]
fn a_printer_that_starts_again_under_us_is_not_yet_known() {
    let (mut device, _) = live("running");
    let change = r#"{"jsonrpc":"2.0","method":"notify_status_update",
        "params":[{"webhooks":{"state":"startup","state_message":"Printer is not ready"}},1.0]}"#;
    let out = step(&mut *device, 2, Heard::Frame(change));
    let expected = "controller.state startup\nexecution (not_yet)\nmessage Printer is not ready\n";
    assert_eq!((told(&out).as_str(), out.said.len()), (expected, 3));
}

#[test]
fn a_restart_of_klipper_voids_the_subscription() {
    let (mut device, _) = live("running");
    let out = step(&mut *device, 2, Heard::Frame(&recorded("gone", 0)));
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
    let late = step(&mut *device, 2, Heard::Frame(&recorded("change.printing", 0)));
    assert!(late.said.is_empty(), "a change of a picture that is void");
    let out = step(&mut *device, 3, Heard::Frame(&recorded("back", 0)));
    let out = answer(&mut *device, &out, "objects");
    assert_eq!(calls(&out)[0].0, "printer.objects.subscribe");
    let out = answer(&mut *device, &out, "standby.again");
    assert_eq!(said(&out)["execution"], "ready");
}

#[test]
fn klipper_gone_unnoticed_is_seen_at_the_next_period() {
    let (mut device, _) = live("running");
    let out = step(&mut *device, 2, Heard::Due);
    let out = answer(&mut *device, &out, "query.refused");
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
    let out = step(&mut *device, 4, Heard::Due);
    assert_eq!(calls(&out)[0].0, "server.info");
}

#[test]
fn an_emergency_stop_is_read_back_by_the_shutdown() {
    let (mut device, _) = live("running");
    let out = step(&mut *device, 2, Heard::Stop(Stop::Emergency));
    assert_eq!(calls(&out)[0].0, "printer.emergency_stop");
    let out = answer(&mut *device, &out, "emergency.ok");
    assert_eq!(out.stop, [StopReply::Accepted]);
    let out = answer(&mut *device, &out, "running");
    assert_eq!(out.stop, []);
    let out = step(&mut *device, 3, Heard::Due);
    let out = answer(&mut *device, &out, "stopped");
    assert_eq!(out.stop, [StopReply::ReadBack(true)]);
    let out = step(&mut *device, 4, Heard::Due);
    assert!(answer(&mut *device, &out, "stopped").stop.is_empty(), "said once");
}

#[test]
fn cancel_and_pause_are_read_back_by_the_job() {
    for (stop, method, ok, state) in [
        (Stop::Cancel, "printer.print.cancel", "cancel.ok", "cancelled"),
        (Stop::Pause, "printer.print.pause", "pause.ok", "paused"),
    ] {
        let (mut device, _) = live("running");
        let out = step(&mut *device, 2, Heard::Stop(stop));
        assert_eq!(calls(&out)[0].0, method);
        let early = step(&mut *device, 2, Heard::Frame(&recorded("change.printing", 0)));
        assert!(early.stop.is_empty(), "not read back before it was answered");
        let out = answer(&mut *device, &out, ok);
        assert_eq!(out.stop, [StopReply::Accepted]);
        assert_eq!(answer(&mut *device, &out, state).stop, [StopReply::ReadBack(true)]);
    }
}

#[test]
fn a_stop_that_cannot_be_carried_out_fails_in_words() {
    let (mut device, _) = live("running");
    let out = step(&mut *device, 2, Heard::Stop(Stop::Emergency));
    let out = answer(&mut *device, &out, "emergency.refused");
    assert_eq!(out.stop, [StopReply::Failed("Klippy Host not connected".to_owned())]);
    step(&mut *device, 3, Heard::Closed);
    let out = step(&mut *device, 3, Heard::Stop(Stop::Emergency));
    assert!(matches!(&*out.stop, [StopReply::Failed(_)]) && out.sends.is_empty(), "{out:?}");
}

#[test]
fn silence_is_a_timeout_and_a_new_connection() {
    let (mut device, _) = live("running");
    step(&mut *device, 2, Heard::Due);
    let waiting = step(&mut *device, 4, Heard::Due);
    assert!(waiting.sends.is_empty(), "one question at a time");
    let out = step(&mut *device, 7, Heard::Due);
    assert!(all_missing(&*device, &out, Unavailable::Timeout));
    assert_eq!(out.sends, [Outgoing::Reopen]);
}

#[test]
fn rubbish_and_refusals_are_said() {
    let (mut device, _) = live("running");
    let out = step(&mut *device, 2, Heard::Frame("{\"jsonrpc\":"));
    assert!(all_missing(&*device, &out, Unavailable::Garbled) && !out.alive);
    let out = step(&mut *device, 2, Heard::Due);
    let id = calls(&out)[0].1;
    let out = step(&mut *device, 2, Heard::Frame(&recorded("unauthorized", id)));
    assert!(all_missing(&*device, &out, Unavailable::Refused));
    assert_eq!(out.trouble.as_deref(), Some("401: the key is not accepted"));
    let out = step(&mut *device, 3, Heard::Closed);
    assert!(all_missing(&*device, &out, Unavailable::Disconnected));
}

#[test]
fn whatever_is_heard_it_keeps_its_contract() {
    survives(
        || live("running").0,
        &[
            r#"{"jsonrpc":"2.0","result":{"klippy_connected":true,"klippy_state":"ready"},"id":@}"#,
            r#"{"jsonrpc":"2.0","result":{"objects":["webhooks","print_stats","extruder"]},"id":@}"#,
            r#"{"jsonrpc":"2.0","result":{"eventtime":10,"status":{"webhooks":{"state":"ready"},
            "print_stats":{"filename":"a","total_duration":10,"filament_used":0,"state":"printing",
            "info":{"total_layer":10,"current_layer":1}},"extruder":{"temperature":20.1}}},"id":@}"#,
            r#"{"jsonrpc":"2.0","method":"notify_status_update",
            "params":[{"extruder":{"temperature":210,"target":[]},"print_stats":{"info":5}},10]}"#,
            r#"{"jsonrpc":"2.0","method":"notify_status_update","params":[{"webhooks":
            {"state":"startup","state_message":"1\n0"},"display_status":{"message":"0"}},10]}"#,
            r#"{"jsonrpc":"2.0","method":"notify_klippy_ready"}"#,
            r#"{"jsonrpc":"2.0","method":"notify_klippy_disconnected"}"#,
            r#"{"jsonrpc":"2.0","result":"ok","id":@}"#,
            r#"{"jsonrpc":"2.0","error":{"code":503,"message":"Klippy Host not connected"},"id":@}"#,
        ],
    );
}
