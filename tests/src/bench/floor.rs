//! What the system itself takes for one request and its reply: the same traffic as a gateway's,
//! from a loop that does nothing but write, wait and read. Nobody who asks for each register by
//! itself can be cheaper than this on the same machine, whatever is done with the answers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{ClockId, clock_gettime};

use super::Pace;
use super::registers::Registers;
use super::shape::Shape;

/// Connections that are looked at after one wait.
const EVENTS_MAX: usize = 64;
/// Read one input register of unit 1.
const REQUEST: [u8; 12] = [0, 1, 0, 0, 0, 6, 1, 4, 0, 0, 0, 1];

/// Requests and replies per second of CPU, of one register each: as many connections, devices and
/// rounds as the shape has.
///
/// # Errors
/// When the server does not answer.
pub(super) fn transactions_per_cpu_second(dir: &Path, shape: Shape, pace: Pace) -> Result<f64> {
    let registers = Registers::start(dir, shape.connections)?;
    let waiting = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut streams = Vec::new();
    for (at, port) in registers.ports.iter().enumerate() {
        let stream = TcpStream::connect(("127.0.0.1", *port))?;
        stream.set_nodelay(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&waiting, &stream, epoll::EventData::new_u64(at as u64), flags)?;
        streams.push(stream);
    }
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut transactions = 0u32;
    for round in 1.. {
        transactions += one_round(&waiting, &mut streams, shape.units)?;
        let next = shape.period * round;
        if next >= pace.measure {
            break;
        }
        std::thread::sleep(next.saturating_sub(began.elapsed()));
    }
    Ok(f64::from(transactions) / (cpu_seconds() - cpu))
}

/// Asks every device once, those of one connection one after the other.
fn one_round(
    waiting: &impl rustix::fd::AsFd,
    streams: &mut [TcpStream],
    units: u16,
) -> Result<u32> {
    let mut left = vec![units; streams.len()];
    let mut open = streams.len();
    let mut transactions = 0;
    let mut reply = [0; 64];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    streams.iter_mut().try_for_each(|stream| stream.write_all(&REQUEST))?;
    while open > 0 {
        events.clear();
        epoll::wait(waiting, spare_capacity(&mut events), None)?;
        for event in &events {
            let at = usize::try_from(event.data.u64())?;
            ensure!(streams[at].read(&mut reply)? > REQUEST.len() - 2, "no whole reply");
            transactions += 1;
            left[at] -= 1;
            if left[at] == 0 {
                open -= 1;
            } else {
                streams[at].write_all(&REQUEST)?;
            }
        }
    }
    Ok(transactions)
}

/// What this thread has used, with what the system did on its behalf.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
