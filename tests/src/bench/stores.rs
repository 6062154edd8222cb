//! Stores of time series as their users run them: VictoriaMetrics and InfluxDB 1, as Debian has
//! them (`apt-get install --no-install-recommends victoria-metrics influxdb`).
//!
//! Both are fed line protocol, waited for until they have nothing left to merge, and asked in their
//! own language: `rollup(…)` of MetricsQL and `min, max, mean … GROUP BY time(…)` of InfluxQL.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::history::{Question, Said, Stored};
use super::usage;
use crate::peers::{need, wait_for_port};
use crate::process::{Process, free_port};

/// Line protocol sent at once.
const BODY: usize = 8 << 20;
/// How long a store may take to merge what it was given.
const SETTLED: Duration = Duration::from_secs(90);
/// A store whose files have not changed for so long has nothing left to do.
const QUIET: Duration = Duration::from_secs(5);

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Victoria,
    Influx,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Victoria => "VictoriaMetrics",
            Self::Influx => "InfluxDB 1",
        }
    }
}

/// HTTP, waited for.
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Client {
    pub(super) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, client: reqwest::Client::new() })
    }

    pub(super) fn get(&self, url: &str, query: &[(&str, &str)]) -> Result<String> {
        self.runtime.block_on(async {
            let reply = self.client.get(url).query(query).send().await?;
            Ok(reply.error_for_status()?.text().await?)
        })
    }

    fn post(&self, url: &str, body: Vec<u8>) -> Result<()> {
        self.runtime.block_on(async {
            self.client.post(url).body(body).send().await?.error_for_status()?;
            Ok(())
        })
    }
}

/// A running store.
pub(super) struct Store {
    pub(super) kind: Kind,
    process: Process,
    url: String,
    dir: PathBuf,
}

impl Store {
    /// Starts an empty one; `None` when it is not installed.
    pub(super) fn start(kind: Kind, dir: &Path) -> Result<Option<Self>> {
        let program = match kind {
            Kind::Victoria => "victoria-metrics",
            Kind::Influx => "influxd",
        };
        let Some(program) = need(program) else { return Ok(None) };
        let (port, mut command) = (free_port()?, Command::new(program));
        match kind {
            Kind::Victoria => command
                .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
                .arg(format!("-storageDataPath={}", dir.display()))
                .args(["-retentionPeriod=100y", "-loggerLevel=WARN"]),
            Kind::Influx => command.arg("-config").arg(influx_config(dir, port)?),
        };
        let mut process = Process::start("store", dir, &mut command)?;
        wait_for_port(&mut process, port)?;
        let (url, dir) = (format!("http://127.0.0.1:{port}"), dir.to_owned());
        let store = Self { kind, process, url, dir };
        if kind == Kind::Influx {
            let query = "q=CREATE+DATABASE+shop";
            Client::new()?.post(&format!("{}/query?{query}", store.url), Vec::new())?;
        }
        Ok(Some(store))
    }

    /// Sends what a command prints, and waits until it is stored as it will stay.
    pub(super) fn fill(&self, lines: &mut Command, samples: f64) -> Result<Stored> {
        let client = Client::new()?;
        let mut child = lines.stdout(Stdio::piped()).spawn()?;
        let mut out = child.stdout.take().context("a pipe")?;
        let (mut rest, mut ended) = (Vec::new(), false);
        while !ended {
            let mut body = std::mem::take(&mut rest);
            let room = u64::try_from(BODY - body.len())?;
            ended = out.by_ref().take(room).read_to_end(&mut body)? == 0;
            let whole = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            rest = body.split_off(whole);
            if !body.is_empty() {
                client.post(&format!("{}/write?db=shop&precision=s", self.url), body)?;
            }
        }
        ensure!(child.wait()?.success() && rest.is_empty(), "the days end too early");
        if self.kind == Kind::Victoria {
            client.get(&format!("{}/internal/force_flush", self.url), &[])?;
            client.get(&format!("{}/internal/force_merge", self.url), &[])?;
        }
        self.settle()?;
        let (bytes, bytes_in_all) = match self.kind {
            Kind::Victoria => (size(&self.dir.join("data"))?, size(&self.dir)?),
            Kind::Influx => (tsm(&self.dir)?.1, size(&self.dir.join("data"))?),
        };
        let cpu = usage::cpu(&self.process)?;
        Ok(Stored { samples, cpu, bytes: bytes as f64, bytes_in_all: bytes_in_all as f64 })
    }

    /// Waits until nothing changes any more and, in InfluxDB, everything is in one file.
    fn settle(&self) -> Result<()> {
        let began = Instant::now();
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = size(&self.dir)?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
            let one = self.kind == Kind::Victoria || tsm(&self.dir)?.0 == 1;
            if one && since.elapsed() >= QUIET {
                return Ok(());
            }
            if began.elapsed() >= SETTLED {
                eprintln!("{} is still at work after {SETTLED:?}", self.kind.name());
                return Ok(());
            }
        }
    }

    /// The answer to a question about so many days, as it came.
    pub(super) fn ask(
        &self,
        client: &Client,
        question: Question,
        begin_ms: i64,
        days: u64,
        step_s: u64,
    ) -> Result<String> {
        let begin = begin_ms / 1000;
        let (end, step) = (begin + i64::try_from(days * 86_400)?, i64::try_from(step_s)?);
        match self.kind {
            Kind::Victoria => {
                let of = match question {
                    Question::One => "shop_temperature_1{machine=\"machine-0\"}",
                    Question::All => "{__name__=~\"shop_.*\"}",
                };
                let query = format!("rollup({of}[{step}s])");
                let (from, to) = ((begin + step).to_string(), end.to_string());
                let step = format!("{step}s");
                let asked = [
                    ("query", &*query),
                    ("start", &from),
                    ("end", &to),
                    ("step", &step),
                    ("nocache", "1"),
                ];
                client.get(&format!("{}/api/v1/query_range", self.url), &asked)
            }
            Kind::Influx => {
                let (of, by) = match question {
                    Question::One => ("temperature_1", "machine = 'machine-0' AND "),
                    Question::All => ("*", ""),
                };
                let query = format!(
                    "SELECT min({of}), max({of}), mean({of}) FROM shop WHERE {by}time > {begin}s \
                     AND time <= {end}s GROUP BY time({step}s), machine"
                );
                let asked = [("db", "shop"), ("q", &query)];
                client.get(&format!("{}/query", self.url), &asked)
            }
        }
    }

    /// What an answer said.
    pub(super) fn said(&self, answer: &str) -> Result<Said> {
        let answer: Value = serde_json::from_str(answer)?;
        match self.kind {
            Kind::Victoria => {
                let series = answer["data"]["result"].as_array().context("a result")?;
                let greatest = series.iter().filter(|of| of["metric"]["rollup"] == "max");
                let points = greatest.filter_map(|of| of["values"].as_array()).flatten();
                let numbers = points.filter_map(|point| point[1].as_str()?.parse().ok());
                Ok(count(numbers))
            }
            Kind::Influx => {
                let series = answer["results"][0]["series"].as_array().context("a result")?;
                let numbers = series.iter().flat_map(|of| {
                    let columns = of["columns"].as_array().map_or(&[][..], Vec::as_slice);
                    let greatest = |at: &usize| {
                        columns[*at].as_str().is_some_and(|name| name.starts_with("max"))
                    };
                    let wanted: Vec<usize> = (0..columns.len()).filter(greatest).collect();
                    let rows = of["values"].as_array().map_or(&[][..], Vec::as_slice);
                    rows.iter().flat_map(move |row| {
                        wanted.clone().into_iter().filter_map(move |at| row[at].as_f64())
                    })
                });
                Ok(count(numbers))
            }
        }
    }
}

/// How many there are, and the greatest.
pub(super) fn count(numbers: impl Iterator<Item = f64>) -> Said {
    let none = Said { points: 0, greatest: f64::NEG_INFINITY };
    numbers.fold(none, |said, number| Said {
        points: said.points + 1,
        greatest: said.greatest.max(number),
    })
}

/// Debian's configuration with folders and ports of its own; it compacts as soon as nobody writes.
fn influx_config(dir: &Path, port: u16) -> Result<PathBuf> {
    let (path, folder) = (dir.join("influxdb.conf"), dir.display());
    let rpc = free_port()?;
    let text = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
         [meta]\ndir = \"{folder}/meta\"\n\
         [data]\ndir = \"{folder}/data\"\nwal-dir = \"{folder}/wal\"\nquery-log-enabled = false\n\
         cache-snapshot-write-cold-duration = \"1s\"\ncompact-full-write-cold-duration = \"1s\"\n\
         [monitor]\nstore-enabled = false\n[subscriber]\nenabled = false\n\
         [continuous_queries]\nenabled = false\n\
         [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\nmax-body-size = 0\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// Files of InfluxDB's samples, those being written included, and their bytes.
fn tsm(dir: &Path) -> Result<(usize, u64)> {
    let shards = dir.join("data/shop/autogen");
    let (mut files, mut bytes) = (0, 0);
    for shard in fs::read_dir(shards).into_iter().flatten() {
        for file in fs::read_dir(shard?.path()).into_iter().flatten() {
            let file = file?;
            if file.file_name().to_string_lossy().contains(".tsm") {
                files += 1;
                bytes += file.metadata().map_or(0, |of| of.len());
            }
        }
    }
    Ok((files, bytes))
}

/// Bytes of all files in a folder; one that is removed meanwhile has none.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() { size(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
