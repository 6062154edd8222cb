//! What a running gateway tells of itself, held against the simulator's own log, an independent encoder
//! and an independent parser.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use andon::diagnostics::{Exposition, Kind};
use andon_tests::andon as binary;
use andon_tests::peers::skip;
use andon_tests::process::{Process, free_port, wait_for, work_dir};
use andon_tests::simulator::Simulator;
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with two meters behind one simulator, and a printer that is not there.
struct Site {
    meters: Simulator,
    gateway: Process,
    url: String,
}

impl Site {
    fn start(name: &str) -> Result<Self> {
        let dir = work_dir(name)?;
        let arguments = ["--device", "1=eastron/sdm120", "--device", "2=eastron/sdm120"];
        let tcp = ["--tcp", "127.0.0.1:0"];
        let meters = Simulator::start("meters", &dir, &[&arguments[..], &tcp].concat())?;
        let printer = format!(
            "[source.printer]\nprotocol = \"moonraker\"\nhost = \"127.0.0.1\"\nport = {}\n\
             [machine.printer]\nname = \"Printer\"\nkind = \"fdm-printer\"\nsource = \"printer\"\n",
            free_port()?
        );
        let rule = "[rule.hot-meter]\nmachine = \"panel-1\"\nwhen = \"power.active > 3 kW\"\nfor = \"2 s\"\n\
                    severity = \"high\"\nmessage = \"Too much\"\n";
        let workshop = Workshop::new(&dir).tcp_bus("panel", meters.port()?);
        let workshop = workshop.meter("panel", 1, "200 ms").meter("panel", 2, "200 ms");
        let config = workshop.with(&printer).with(rule).write(&dir)?;
        let mut gateway = binary::run(&dir, &config)?;
        let line = gateway.wait_for_line("board: http://", PATIENCE)?;
        let url = line.split("board: ").nth(1).context("an address")?.trim().to_owned();
        Ok(Self { meters, gateway, url })
    }

    /// A command of andon's that asks this gateway.
    fn ask(&self, arguments: &[&str]) -> Result<Output> {
        binary::output(&[arguments, &["--url", &self.url]].concat())
    }

    fn why(&self, item: &str) -> Result<Value> {
        let output = self.ask(&["why", item, "--json"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until the explanation of an item says so.
    fn wait_for(&self, item: &str, what: &str, said: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut told = Value::Null;
        wait_for(what, PATIENCE, || {
            told = self.why(item).unwrap_or_default();
            said(&told)
        })
        .map_err(|error| error.context(told.to_string()))?;
        Ok(told)
    }

    fn metrics(&self) -> Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = format!("{}/metrics", self.url);
        runtime.block_on(async {
            let answer = reqwest::get(url).await?.error_for_status()?;
            let kind = answer.headers().get("content-type").context("a content type")?.to_str()?;
            ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
            Ok(answer.text().await?)
        })
    }

    /// How many requests and replies of a unit the simulator has seen.
    fn witnessed(&self, unit: u64) -> Result<(u64, u64)> {
        let log = self.meters.witnessed()?;
        let count = |kind: &str| {
            log.iter().filter(|line| line["kind"] == kind && line["unit"] == unit).count() as u64
        };
        Ok((count("request"), count("reply")))
    }
}

/// The samples of a text, as the parser of Prometheus' own client library reads them; none where it
/// is not installed.
fn parsed(text: &str) -> Result<Option<Vec<Value>>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = tests.join(".venv/bin/python");
    if !python.is_file() {
        skip("prometheus-client is not installed (tests/install)");
        return Ok(None);
    }
    let mut parser = Command::new(python)
        .arg(tests.join("peers/metrics_parser.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    parser.stdin.take().context("stdin is a pipe")?.write_all(text.as_bytes())?;
    let output = parser.wait_with_output()?;
    ensure!(output.status.success(), "the parser refuses:\n{text}");
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// The value of the sample with these labels.
fn sample(samples: &[Value], name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    let found = samples.iter().find(|sample| {
        sample["name"] == name && labels.iter().all(|(key, said)| sample["labels"][*key] == *said)
    });
    let found = found.with_context(|| format!("no sample {name} {labels:?}"))?;
    found["value"].as_f64().context("a number")
}

#[test]
fn counters_agree_with_the_simulators_log_within_one_round() -> Result<()> {
    let mut site = Site::start("diagnostics-counters")?;
    site.wait_for("panel-2.power.active", "some rounds", |told| {
        told["heard"]["values"].as_u64() > Some(10)
    })?;
    site.meters.say("fault silence unit=2")?;
    site.wait_for("panel-2.power.active", "failures", |told| {
        told["heard"]["failures"]["timeout"].as_u64() > Some(3)
    })?;
    // The gateway counts a request when it ends, and tells so once per round; a round of either unit
    // is a handful of requests.
    const ROUND: u64 = 8;
    let before = [site.witnessed(1)?, site.witnessed(2)?];
    let text = site.metrics()?;
    let after = [site.witnessed(1)?, site.witnessed(2)?];
    let Some(samples) = parsed(&text)? else { return Ok(()) };
    for (at, source) in ["panel-1", "panel-2"].into_iter().enumerate() {
        let outcome = |word: &str| {
            let labels = [("bus", "panel"), ("source", source), ("outcome", word)];
            sample(&samples, "andon_unit_requests_total", &labels)
        };
        let (answered, timeout) = (outcome("answered")?, outcome("timeout")?);
        let within = |told: f64, from: u64, to: u64| {
            told >= from.saturating_sub(ROUND) as f64 && told <= to as f64
        };
        // The simulator notes a reply once it has left.
        let (least, most) = (before[at].1, after[at].1 + 1);
        assert!(within(answered, least, most), "{source}: {answered} {before:?} {after:?}");
        let failed = |(requests, replies): (u64, u64)| requests - replies;
        let silent = (failed(before[at]), failed(after[at]));
        assert!(
            within(timeout, silent.0, silent.1 + 1),
            "{source}: {timeout} timeouts, {silent:?}"
        );
        assert!(timeout > 0.0 || source != "panel-2", "{source}: {timeout}");
        assert!(answered > 10.0, "{source}: {answered}");
    }
    let standing = |source: &str, word: &str| {
        sample(&samples, "andon_unit_standing", &[("source", source), ("standing", word)])
    };
    assert!((standing("panel-1", "online")? - 1.0).abs() < f64::EPSILON);
    assert!(standing("panel-2", "online")?.abs() < f64::EPSILON);
    assert!(sample(&samples, "andon_process_resident_bytes", &[])? > 1e6);
    assert!(sample(&samples, "andon_engine_readings_total", &[])? > 50.0);
    assert!(!text.contains("andon_mqtt_"), "no broker is configured");
    ensure!(site.gateway.running(), "the gateway has ended");
    Ok(())
}

#[test]
fn label_values_reach_an_independent_parser_as_they_are() -> Result<()> {
    let nasty = ["C:\\DIR\\new", "line\nbreak", "\"quoted\"", "a=b,c={d}", "激光", "\\n", "", " "];
    let mut text = Exposition::default();
    let about = ("andon_test_total", Kind::Counter, "Back\\slash,\nbreak and \"quotes\".");
    let each = nasty
        .iter()
        .enumerate()
        .map(|(n, value)| ([(*value).to_owned(), n.to_string()], n as f64 + 0.5));
    text.family(about, ["said", "n"], each);
    let Some(samples) = parsed(&text.into_text())? else { return Ok(()) };
    assert_eq!(samples.len(), nasty.len());
    for (n, value) in nasty.iter().enumerate() {
        assert_eq!(samples[n]["labels"]["said"], **value);
        assert_eq!(samples[n]["value"], n as f64 + 0.5);
        assert_eq!(samples[n]["type"], "counter");
    }
    Ok(())
}

#[test]
fn an_item_is_explained_from_its_registers_to_its_rules() -> Result<()> {
    let mut site = Site::start("diagnostics-why")?;
    // 1500.25 in single precision, by python: struct.pack(">f", 1500.25).hex() == "44bb8800".
    site.meters.say("set 1 power.active=1500.25")?;
    let told = site
        .wait_for("panel-1.power.active", "the value", |told| told["heard"]["value"] == 1500.25)?;
    let register = &told["origin"]["register"];
    assert_eq!(register["raw"]["words"], serde_json::json!(["44bb", "8800"]));
    assert_eq!(register["raw"]["place"], "input:0x000C");
    for (key, value) in [("place", "input:0x000C"), ("form", "f32"), ("order", "ABCD")] {
        assert_eq!(register[key], value);
    }
    assert_eq!(register["unit"]["source"], "panel-1");
    assert_eq!(register["unit"]["standing"], "online");
    assert!(register["unit"]["turnaround_ms"].is_number());
    assert_eq!((&told["period_ms"], &told["unit"]), (&200.into(), &"W".into()));
    assert_eq!(told["watchers"]["rules"][0]["id"], "hot-meter");
    assert!(told["heard"]["age_ms"].as_u64() < Some(5000), "{told}");
    let text = String::from_utf8(site.ask(&["why", "panel-1.power.active"])?.stdout)?;
    for said in ["= 1500.25 W", "44bb 8800", "hot-meter (high)", "2 register(s) of f32 ABCD"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    site.meters.say("fault silence unit=1")?;
    let told = site.wait_for("panel-1.power.active", "silence", |told| {
        told["heard"]["value"].is_null() && told["heard"]["last_failure"].is_object()
    })?;
    assert!(told["origin"]["register"]["unit"]["requests"]["timeout"].as_u64() > Some(0));
    let text = String::from_utf8(site.ask(&["why", "panel-1.power.active"])?.stdout)?;
    assert!(text.contains("no value: ") && !text.contains("= 1500.25"), "{text}");
    // The old words stay, with their age.
    assert!(text.contains("44bb 8800"), "{text}");
    Ok(())
}

#[test]
fn an_item_of_a_device_that_is_away_has_no_age_and_says_why() -> Result<()> {
    let site = Site::start("diagnostics-device")?;
    let told = site.wait_for("printer.execution", "a failed connection", |told| {
        told["origin"]["device"]["device"]["errors"].as_u64() > Some(0)
    })?;
    let device = &told["origin"]["device"]["device"];
    assert_eq!((&device["state"], &device["protocol"]), (&"down".into(), &"moonraker".into()));
    assert!(device["why"].is_string() && device["last_answer_age_ms"].is_null(), "{device}");
    assert!(told["heard"]["value"].is_null() && told["origin"]["register"].is_null());
    let text = String::from_utf8(site.ask(&["why", "printer.execution"])?.stdout)?;
    assert!(text.contains("no value") && text.contains("has never answered"), "{text}");
    // Its items are told to be without it when a first patience is over.
    let mut top = String::new();
    wait_for("items that say why they have no value", PATIENCE, || {
        let asked = site.ask(&["top", "--once"]).map(|asked| asked.stdout);
        top = String::from_utf8(asked.unwrap_or_default()).unwrap_or_default();
        top.contains("14 items: disconnected")
    })
    .with_context(|| top.clone())?;
    for said in ["panel", "moonraker: down", "mqtt     not used"] {
        assert!(top.contains(said), "{said}: {top}");
    }
    // What is printed to no terminal is printed once, without its control sequences.
    let piped = String::from_utf8(site.ask(&["top"])?.stdout)?;
    assert!(piped.starts_with("andon ") && !piped.contains('\u{1b}'), "{piped}");
    let told: andon::diagnostics::Diagnostics =
        serde_json::from_slice(&site.ask(&["top", "--json"])?.stdout)?;
    assert_eq!((told.buses.len(), told.devices.len(), told.mqtt), (1, 1, None));
    assert!(told.buses[0].up && told.boards.is_some());
    Ok(())
}

#[test]
fn wrong_questions_and_absent_gateways_get_a_clear_word_and_an_exit_code() -> Result<()> {
    let site = Site::start("diagnostics-wrong")?;
    let nobody = format!("http://127.0.0.1:{}", free_port()?);
    let asked = |arguments: &[&str], url: &str| -> Result<(Option<i32>, String)> {
        let output = binary::output(&[arguments, &["--url", url]].concat())?;
        assert!(output.stdout.is_empty(), "stdout is data: {output:?}");
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    for (arguments, url, code, said) in [
        (&["why", "panel-1.powr.active"][..], &*site.url, 1, "did you mean \"power.active\"?"),
        (&["why", "panl-1.power.active"], &site.url, 1, "did you mean \"panel-1\"?"),
        (&["why", "panel-1.../metrics"], &site.url, 1, "has no item"),
        (&["why", "panl-1"], &site.url, 1, "did you mean \"panel-1\"?"),
        (&["why", "panel-1."], &site.url, 2, "is no MACHINE.ITEM"),
        (&["why", ".power"], &site.url, 2, "is no MACHINE.ITEM"),
        (&["why"], &site.url, 2, "MACHINE[.ITEM]"),
        (&["top", "--twice"], &site.url, 2, "--twice"),
        (&["top", "--once"], &nobody, 1, "is it running?"),
        (&["why", "panel-1.voltage"], &nobody, 1, "is it running?"),
        (&["top", "--json"], "no address", 2, "is not an address"),
    ] {
        let (got, told) = asked(arguments, url)?;
        assert_eq!(got, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(said), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
    Ok(())
}

#[test]
fn what_was_typed_wrong_and_what_is_configured_wrong_are_told_apart_by_exit_code() -> Result<()> {
    let dir = work_dir("diagnostics-codes")?;
    let broken = dir.join("broken.toml");
    std::fs::write(&broken, "[site]\nid = 7\n")?;
    let broken = broken.to_str().context("a path")?;
    for (arguments, code, said) in [
        (&["export", "--from", "-1h", "--config", broken][..], 78, "--state"),
        (&["history", "hours", "--from", "-1h", "--config", broken], 78, "--journal"),
        (&["alarms", "--config", broken], 78, "--url"),
        (&["run", "--config", broken], 78, "broken.toml"),
        (&["why", "saw.", "--url", "http://127.0.0.1:9"], 2, "is no MACHINE.ITEM"),
        (&["simulate", "--rtu"], 2, "nothing to serve"),
        (&["simulate", "--rtu", "--device", "nine"], 2, "is no UNIT=PROFILE"),
        (&["simulate", "--rtu", "eastron/sdm120", "--fault", "rain"], 2, "--fault 'rain'"),
        (&["scan", "lan", "--subnet", "ten"], 2, "is no subnet"),
        (&["scan", "serial", "/dev/null", "--units", "0-9"], 2, "--units"),
        (&["scan", "serial", "/dev/null", "--parity", "X"], 2, "--parity"),
    ] {
        let output = binary::output(arguments)?;
        let told = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(said) && output.stdout.is_empty(), "{arguments:?}: {told}");
    }
    Ok(())
}
