//! Printers through the real gateway: what OctoPrint and Moonraker say of themselves is what the
//! board shows, second by second; stops are read back and latched; and a machine whose peer is
//! missing says so until it comes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use andon_tests::agreement::{Sample, mismatches};
use andon_tests::machines::{Board, Moonraker, OCTOPRINT_KEY, OctoPrint, Shown, ask};
use andon_tests::process::{self, work_dir};
use andon_tests::stalls::StallWatch;
use andon_tests::workshop::Workshop;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

mod fakes;

/// How often the gateway asks.
const PERIOD: Duration = Duration::from_millis(500);
/// How far the board may be behind a change: a period and a second.
const LAG: Duration = Duration::from_millis(1500);
/// How often OctoPrint is asked for the truth.
const TRUTH_EVERY: Duration = Duration::from_millis(200);
/// How often the board is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longer than anything takes that OctoPrint is waited for, even a job to its end.
const LONGEST: Duration = Duration::from_secs(120);

/// A secret that its owner alone may read.
fn secret(dir: &Path, name: &str, text: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(path.display().to_string())
}

/// The source `printer` of this protocol, and its machine of the same name.
pub(crate) fn printer(protocol: &str, port: u16, more: &str) -> String {
    format!(
        "[source.printer]\nprotocol = \"{protocol}\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         period = \"{} ms\"\n{more}\n[machine.printer]\nname = \"Printer\"\nkind = \"fdm-printer\"\n\
         source = \"printer\"\n",
        PERIOD.as_millis()
    )
}

/// A rule that stops the printer by its own emergency stop when the nozzle is hotter than `limit`.
fn emergency_above(limit: u32) -> String {
    stop_above("emergency", limit)
}

/// The same by another of the stops that it offers.
fn stop_above(stop: &str, limit: u32) -> String {
    format!(
        "[output.halt]\nkind = \"trip\"\nmachine = \"printer\"\nstop = \"printer.{stop}\"\n\
         [rule.hot]\nmachine = \"printer\"\nwhen = \"temperature.nozzle > {limit} °C\"\n\
         clear = \"temperature.nozzle < {} °C\"\n\
         severity = \"high\"\non_unknown = \"alarm\"\ntrip = \"halt\"\nmessage = \"Too hot.\"\n",
        limit - 10
    )
}

/// OctoPrint and the board that shows it, watched side by side.
struct Watched {
    octoprint: OctoPrint,
    board: Board,
    started: Instant,
    looked: Option<Instant>,
    truth: Vec<Sample>,
    shown: Vec<Sample>,
}

impl Watched {
    fn new(octoprint: OctoPrint, board: Board) -> Self {
        let (truth, shown) = (Vec::new(), Vec::new());
        Self { octoprint, board, started: Instant::now(), looked: None, truth, shown }
    }

    fn sample(&self, ask: impl FnOnce() -> Result<Facts>) -> Result<Sample> {
        let from = self.started.elapsed();
        let facts = ask()?;
        Ok(Sample { from, until: self.started.elapsed(), facts })
    }

    /// Looks at OctoPrint, and every second at the board too.
    fn look(&mut self) -> Result<String> {
        let began = Instant::now();
        let truth = self.sample(|| own_word(&self.octoprint))?;
        let state = truth.facts["execution"].as_str().unwrap_or_default().to_owned();
        self.truth.push(truth);
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            let shown = self.sample(|| Ok(facts(&self.board.machine("printer")?)))?;
            self.shown.push(shown);
        }
        std::thread::sleep(TRUTH_EVERY.saturating_sub(began.elapsed()));
        Ok(state)
    }

    fn watch(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.look()?;
        }
        Ok(())
    }

    /// Watches until OctoPrint itself is in `state`, and two seconds more.
    fn watch_until(&mut self, state: &str) -> Result<()> {
        let began = Instant::now();
        while self.look()? != state {
            ensure!(began.elapsed() < LONGEST, "OctoPrint was never {state}");
        }
        self.watch(Duration::from_millis(2500))
    }

    /// The executions that the board went through.
    fn course(&self) -> Vec<String> {
        let shown = self.shown.iter().map(|sample| sample.facts["execution"].to_string());
        let mut course: Vec<String> = shown.map(|word| word.trim_matches('"').to_owned()).collect();
        course.dedup();
        course
    }
}

type Facts = BTreeMap<&'static str, Value>;

const HEAT: [(&str, &str, &str); 4] = [
    ("temperature.nozzle", "tool0", "actual"),
    ("temperature.target.nozzle", "tool0", "target"),
    ("temperature.bed", "bed", "actual"),
    ("temperature.target.bed", "bed", "target"),
];

/// What OctoPrint says, in the board's words: by its own flags, as its manual explains them; and
/// whether its printer waits for heat, by the printer's own log.
fn own_word(octoprint: &OctoPrint) -> Result<Facts> {
    let (status, printer) = octoprint.get("/api/printer")?;
    let (_, job) = octoprint.get("/api/job")?;
    // Not before it is asked: a job that begins meanwhile would seem to wait for nothing.
    let waits = octoprint.waits_for_heat()?;
    let flag = |name: &str| printer["state"]["flags"][name] == true;
    let completion = job["progress"]["completion"].as_f64();
    let execution = if status == 409 {
        match job["error"].as_str() {
            Some(error) if error.contains("M112") => "stopped",
            Some(_) => "fault",
            None => "unknown",
        }
    } else if flag("paused") {
        "paused"
    } else if flag("printing") {
        if waits { "preparing" } else { "running" }
    } else if completion == Some(100.0) {
        "finished"
    } else {
        "ready"
    };
    let connected = status == 200;
    let mut facts = BTreeMap::from([("execution", json!(execution))]);
    facts.insert("controller", json!(Some(execution).filter(|word| *word != "unknown")));
    facts.insert(
        "job.name",
        if connected { job["job"]["file"]["name"].clone() } else { Value::Null },
    );
    let progress = completion.filter(|_| connected).map(|percent| percent / 100.0);
    facts.insert("progress", json!(progress));
    for (item, part, which) in HEAT {
        facts.insert(item, printer["temperature"][part][which].clone());
    }
    Ok(facts)
}

/// The same facts as the board shows them.
fn facts(shown: &Shown) -> Facts {
    let items = ["job.name", "progress"].into_iter().chain(HEAT.map(|(item, ..)| item));
    let mut facts: Facts = items.map(|item| (item, shown.value(item))).collect();
    facts.insert("execution", json!(shown.execution()));
    // A latched stop shows the machine as stopped by itself; this is what its controller says.
    facts.insert("controller", shown.value("execution"));
    facts
}

/// A job of `seconds` after a short heating.
fn gcode(target: u32, seconds: u32) -> String {
    format!(
        "M140 S30\nM109 S{target}\n{}M104 S0\nM140 S0\n",
        "G4 P100\n".repeat(seconds as usize * 10)
    )
}

/// The server at `port` behind a proxy that lets no WebSocket through, as many do unless told.
fn refusing_websockets(port: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let own = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever hangs up ends its own thread and nothing else.
            std::thread::spawn(move || pass(client, port).ok());
        }
    });
    Ok(own)
}

fn pass(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    let mut head = [0; 11];
    while client.peek(&mut head)? < head.len() {}
    if &head == b"GET /sockjs" {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut asks, mut asked) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        std::io::copy(&mut asks, &mut asked).ok();
        asked.shutdown(Shutdown::Both).ok();
    });
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

#[test]
fn the_board_agrees_with_octoprint_second_by_second() -> Result<()> {
    agrees("octoprint", true)
}

#[test]
fn it_does_so_by_requests_where_the_push_is_refused() -> Result<()> {
    agrees("octoprint-asked", false)
}

fn agrees(name: &str, pushes: bool) -> Result<()> {
    let dir = work_dir(name)?;
    // Even the short one lasts: it is to be paused and resumed before it ends, on a busy machine too.
    let files = [("short.gcode", gcode(45, 30)), ("long.gcode", gcode(60, 60))];
    let Some(octoprint) = OctoPrint::start(&dir, &files)? else { return Ok(()) };
    octoprint.connect()?;
    let key = format!("key_file = \"{}\"", secret(&dir, "key", OCTOPRINT_KEY)?);
    let port = if pushes { octoprint.port } else { refusing_websockets(octoprint.port)? };
    let source = printer("octoprint", port, &key);
    let workshop = Workshop::new(&dir).with(&source).with(&emergency_above(80));
    let board = Board::start(&dir, &workshop)?;
    board.wait_for("printer", "a temperature", |shown| shown.value("temperature.bed").is_f64())?;
    if !pushes {
        board.wait_for_words("printer", "does not push, it is asked at every period")?;
        board.wait_for_words("printer", "403")?;
    }
    process::wait_for("a word about push", LAG * 10, || {
        octoprint.pushes().is_ok_and(|listened| listened == pushes)
    })?;
    let mut seen = Watched::new(octoprint, board);
    seen.watch_until("ready")?;

    let select = |print| json!({"command": "select", "print": print});
    seen.octoprint.post("/api/files/local/short.gcode", &select(true))?;
    seen.watch_until("running")?;
    seen.octoprint.post("/api/job", &json!({"command": "pause", "action": "pause"}))?;
    seen.watch_until("paused")?;
    seen.octoprint.post("/api/job", &json!({"command": "pause", "action": "resume"}))?;
    seen.watch_until("running")?;
    seen.watch_until("finished")?;
    // A new file clears what was finished.
    seen.octoprint.post("/api/files/local/long.gcode", &select(false))?;
    seen.watch_until("ready")?;
    seen.octoprint.post("/api/job", &json!({"command": "start"}))?;
    seen.watch_until("running")?;
    // Somebody turns the heat up in the middle of the job, and the rule trips.
    let hot = json!({"command": "target", "targets": {"tool0": 110}});
    seen.octoprint.post("/api/printer/tool", &hot)?;
    seen.watch_until("stopped")?;

    let stop = seen.board.wait_for_stop("printer", "latched")?;
    ensure!(stop["level"] == "C2" && stop["cause"] == "hot", "{stop}");
    let expected =
        "ready preparing running paused running finished ready preparing running stopped";
    assert_eq!(seen.course().join(" "), expected);
    assert_eq!(seen.octoprint.pushes()?, pushes);
    let wrong = mismatches(&seen.truth, &seen.shown, LAG, TRUTH_EVERY);
    eprintln!("{name}: {} mismatches in {} looks", wrong.len(), seen.shown.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), seen.shown.len(), wrong.join("\n"));
    assert!(seen.shown.len() >= 20, "{}", seen.shown.len());

    // Nobody knows how hot it is now: that is no reason to let go.
    ensure!(seen.board.reset("hot")? >= 400, "a person's reset needs a known temperature");
    seen.board.wait_for_stop("printer", "latched")?;
    Ok(())
}

#[test]
fn klipper_behind_moonraker_is_shown_as_it_is_and_stopped_by_its_own_stop() -> Result<()> {
    let dir = work_dir("moonraker")?;
    let Some(mut moonraker) = Moonraker::start(&dir)? else { return Ok(()) };
    let key = format!("key_file = \"{}\"", secret(&dir, "key", &moonraker.key)?);
    let source = printer("moonraker", moonraker.port, &key);
    let workshop = Workshop::new(&dir).with(&source).with(&emergency_above(300));
    let board = Board::start(&dir, &workshop)?;
    board.wait_for_execution("printer", "ready")?;
    let mut klippy = |command: &str| moonraker.klippy.say(command).map(drop);

    klippy("heat 215")?;
    klippy("print cube.gcode")?;
    let shown = board.wait_for_execution("printer", "preparing")?;
    assert_eq!(shown.value("job.name"), "cube.gcode");
    klippy("temperature 214.5")?;
    klippy("extrude 12.5")?;
    board.wait_for_execution("printer", "running")?;
    board.wait_for("printer", "the whole picture", |shown| {
        shown.value("temperature.nozzle") == 214.5
            && shown.value("temperature.target.nozzle") == 215.0
            && shown.value("progress") == 0.25
            && shown.value("filament.used").as_f64().is_some_and(|used| (used - 12.5).abs() < 1e-9)
    })?;
    klippy("pause")?;
    board.wait_for_execution("printer", "paused")?;
    klippy("resume")?;
    board.wait_for_execution("printer", "running")?;
    klippy("complete")?;
    board.wait_for_execution("printer", "finished")?;

    // A restart of Klipper voids the subscription; what comes after it is still seen.
    klippy("restart")?;
    board.wait_for_execution("printer", "ready")?;
    klippy("print second.gcode")?;
    klippy("extrude 1")?;
    board.wait_for_execution("printer", "running")?;

    // From here on print_stats says "printing" for ever.
    klippy("shutdown MCU 'mcu' shutdown: Timer too close")?;
    // Moonraker may take its time to hear of it; the board may not, after that.
    let url = format!("http://127.0.0.1:{}/server/info", moonraker.port);
    let knows = |info: &Value| info["result"]["klippy_state"] == "shutdown";
    process::wait_for("Moonraker to know", LAG * 10, || {
        ask(&moonraker.key, &url, None).is_ok_and(|(_, info)| knows(&info))
    })?;
    let (began, stalls) = (Instant::now(), StallWatch::start());
    let shown = board.wait_for_execution("printer", "fault")?;
    let (took, stalled) = (began.elapsed(), stalls.longest());
    assert!(took < LAG + stalled, "{took:?}, of which the computer stood still for {stalled:?}");
    let message = shown.value("message");
    assert!(message.as_str().is_some_and(|text| text.contains("Timer too close")), "{message}");
    Ok(())
}

#[test]
fn klippers_emergency_stop_is_read_back_and_latched() -> Result<()> {
    let dir = work_dir("klipper-stop")?;
    let Some(mut moonraker) = Moonraker::start(&dir)? else { return Ok(()) };
    let key = format!("key_file = \"{}\"", secret(&dir, "key", &moonraker.key)?);
    let source = printer("moonraker", moonraker.port, &key);
    let workshop = Workshop::new(&dir).with(&source).with(&emergency_above(300));
    let mut board = Board::start(&dir, &workshop)?;
    board.wait_for_stop("printer", "armed")?;
    for command in ["print cube.gcode", "extrude 5", "temperature 210"] {
        moonraker.klippy.say(command)?;
    }
    board.wait_for_execution("printer", "running")?;
    moonraker.klippy.say("temperature 312")?;
    let stop = board.wait_for_stop("printer", "latched")?;
    ensure!(stop["level"] == "C2" && stop["cause"] == "hot", "{stop}");
    board.wait_for_execution("printer", "stopped")?;

    // Somebody restarts Klipper by hand, and it cools; the latch is the board's own.
    moonraker.klippy.say("restart")?;
    board
        .wait_for("printer", "Klipper to be ready", |shown| shown.value("execution") == "ready")?;
    assert_eq!(board.machine("printer")?.execution(), "stopped", "by the latch");
    board.wait_for_stop("printer", "latched")?;
    ensure!(board.reset("hot")? < 300, "cool, and a person has reset it");
    board.wait_for_stop("printer", "armed")?;
    board.wait_for_execution("printer", "ready")?;

    // With another key nothing is shown, and the reason is.
    board.gateway.kill();
    secret(&dir, "key", "00000000000000000000000000000000")?;
    let board = Board::start(&dir, &workshop)?;
    board.wait_for_words("printer", "401")?;
    let shown = board.machine("printer")?;
    assert_eq!((shown.execution(), shown.value("temperature.nozzle")), ("unknown", Value::Null));
    let log = std::fs::read_to_string(&board.gateway.log)?;
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains("the key is not accepted")).collect();
    assert!(!told.is_empty() && told.len() < 4, "told, and not at every try: {told:?}");
    told.first().filter(|line| line.contains("source=printer")).context("which one")?;
    Ok(())
}
