//! A Modbus TCP server that costs next to nothing, for loads under which `andon simulate` would be
//! the bottleneck: input registers that change once a second, whatever unit and address is asked.
//!
//! It runs in a process of its own (`bench serve PORTS`), on a port per device because a host and
//! port are one line to andon, with a thread per connection; it knows no fault, no log and no other
//! function. What it has served is told for every line on stdin.

#![expect(clippy::print_stdout, reason = "what is served is the output of `bench serve`")]

use std::fmt::Write as _;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::process::Process;

/// MBAP header, function, address and count.
const REQUEST: usize = 12;
/// Most registers of one read.
const COUNT_MAX: u16 = 125;
/// Read input registers.
const FUNCTION: u8 = 4;
/// Small: a connection holds one request and one reply.
const STACK: usize = 128 * 1024;

/// The server, seen from the benchmark.
#[derive(Debug)]
pub(super) struct Registers {
    process: Process,
    stdin: ChildStdin,
    asked: usize,
    pub(super) ports: Vec<u16>,
}

impl Registers {
    pub(super) fn start(dir: &Path, ports: u16) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(ports.to_string());
        let (mut process, stdin) = Process::start_interactive("registers", dir, &mut command)?;
        let line = process.wait_for_line("serving: ", Duration::from_secs(10))?;
        let ports = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        Ok(Self { process, stdin, asked: 0, ports })
    }

    /// Registers that it has served so far.
    pub(super) fn served(&mut self) -> Result<u64> {
        self.stdin.write_all(b"how much\n")?;
        self.asked += 1;
        let answer = format!("{}: ", self.asked);
        let line = self.process.wait_for_line(&answer, Duration::from_secs(10))?;
        line.rsplit(' ').next().and_then(|word| word.parse().ok()).context("a number")
    }
}

/// `bench serve PORTS`: serves until stdin ends.
///
/// # Errors
/// When there is no port or no thread left.
pub fn serve(ports: u16) -> Result<()> {
    let seen = Arc::new(AtomicU64::default());
    let began = Instant::now();
    let mut serving = "serving:".to_owned();
    for _ in 0..ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        write!(serving, " {}", listener.local_addr()?.port())?;
        let counts = Arc::clone(&seen);
        // One client at a time; its going away ends the connection, nothing else can fail here.
        std::thread::Builder::new().stack_size(STACK).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer_all(stream, &counts, began).ok();
            }
        })?;
    }
    println!("{serving}");
    for (nth, line) in std::io::stdin().lock().lines().enumerate() {
        line?;
        println!("{}: {}", nth + 1, seen.load(Ordering::Relaxed));
    }
    Ok(())
}

fn answer_all(mut stream: TcpStream, served: &AtomicU64, began: Instant) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    let mut reply = Vec::with_capacity(9 + 2 * usize::from(COUNT_MAX));
    loop {
        stream.read_exact(&mut request)?;
        let [.., function, start_high, start_low, count_high, count_low] = request;
        let start = u16::from_be_bytes([start_high, start_low]);
        let count = u16::from_be_bytes([count_high, count_low]);
        ensure!(function == FUNCTION && (1..=COUNT_MAX).contains(&count), "not served here");
        let bytes = u8::try_from(2 * count)?;
        reply.clear();
        reply.extend_from_slice(&request[..4]);
        reply.extend_from_slice(&(u16::from(bytes) + 3).to_be_bytes());
        reply.extend_from_slice(&[request[6], function, bytes]);
        let second = began.elapsed().as_secs();
        for address in start..start.saturating_add(count) {
            reply.extend_from_slice(&register(request[6], address, second).to_be_bytes());
        }
        stream.write_all(&reply)?;
        served.fetch_add(u64::from(count), Ordering::Relaxed);
    }
}

/// 200 to 307: tenths of something that a workshop measures, a little different every second.
const fn register(unit: u8, address: u16, second: u64) -> u16 {
    let place = unit as u64 * 13 + address as u64 * 7;
    // Steps of a fixed pattern: as good as noise for whoever packs them.
    let noise = (second * 0x9E37_79B9 + place * 0x85EB_CA6B) >> 7 & 7;
    200 + (place % 100 + noise) as u16
}
