//! Scripted devices for the tests: byte-level servers over duplex pipes and pseudo-terminals.

use std::time::Duration;

use andon_adapters::modbus::{Encoding, Form, Order, Scale, Table};
use andon_adapters::profile::{Evidence, Profile, ProfileItem};
use andon_engine::item::Item;
use andon_engine::plan::{ItemPlan, MachineIndex, Measurand};
use andon_engine::value::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep_until, timeout};

use crate::bus::transport::{Opener, Stream};
use crate::bus::*;
use crate::config::plan::{Fed, PollPlan, Station, UnitPlan};

/// Makes a reply that should not be believed.
pub(super) type Forge = fn(&Request) -> Vec<u8>;
pub(super) type Replies = Vec<(Duration, Vec<u8>)>;
pub(super) type Script = Arc<Mutex<dyn FnMut(&Request) -> Replies + Send>>;

pub(in crate::bus) const SECOND: Duration = Duration::from_secs(1);

/// A request as the device sees it.
pub(super) struct Request {
    pub(super) transaction: Option<[u8; 2]>,
    pub(super) unit: u8,
    pub(super) function: u8,
    pub(super) address: u16,
    pub(super) count: u16,
}

impl Request {
    pub(super) fn parse(bytes: &[u8], tcp: bool) -> Self {
        let pdu = if tcp { &bytes[6..] } else { bytes };
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        let transaction = tcp.then(|| [bytes[0], bytes[1]]);
        Self { transaction, unit: pdu[0], function: pdu[1], address: word(2), count: word(4) }
    }

    /// A frame around unit and PDU.
    pub(super) fn frame(&self, unit_and_pdu: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        if let Some(transaction) = self.transaction {
            frame.extend(transaction);
            frame.extend([0, 0]);
            frame.extend(u16::try_from(unit_and_pdu.len()).unwrap().to_be_bytes());
        }
        frame.extend(unit_and_pdu);
        if self.transaction.is_none() {
            frame.extend(crc(unit_and_pdu).to_le_bytes());
        }
        frame
    }

    pub(super) fn exception(&self, code: u8) -> Vec<u8> {
        self.frame(&[self.unit, self.function | 0x80, code])
    }

    pub(super) fn honest_pdu(&self) -> Vec<u8> {
        let mut pdu = vec![self.unit, self.function];
        match self.function {
            1 | 2 => {
                let bytes = usize::from(self.count).div_ceil(8);
                pdu.push(u8::try_from(bytes).unwrap());
                pdu.extend(vec![0; bytes]);
            }
            3 | 4 => {
                pdu.push(u8::try_from(self.count * 2).unwrap());
                let words = (0..self.count).map(|at| self.address + at);
                pdu.extend(words.flat_map(u16::to_be_bytes));
            }
            _ => {
                pdu.extend(self.address.to_be_bytes());
                pdu.extend(self.count.to_be_bytes());
            }
        }
        pdu
    }

    pub(super) fn honest(&self) -> Vec<u8> {
        self.frame(&self.honest_pdu())
    }
}

/// CRC-16/MODBUS, written out: the test must not trust the library under test.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc: u16, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 }
        })
    })
}

/// What a script replies, as the only one, to end the connection.
pub(super) fn end() -> Replies {
    vec![(Duration::ZERO, Vec::new())]
}

pub(super) async fn serve(stream: DuplexStream, tcp: bool, script: Script) {
    let (mut read, write) = tokio::io::split(stream);
    let write = Arc::new(tokio::sync::Mutex::new(write));
    let mut bytes = vec![0; if tcp { 12 } else { 8 }];
    while read.read_exact(&mut bytes).await.is_ok() {
        let heard = Instant::now();
        let replies = script.lock().unwrap()(&Request::parse(&bytes, tcp));
        for (delay, reply) in replies {
            if reply.is_empty() {
                return;
            }
            let write = write.clone();
            tokio::spawn(async move {
                sleep_until(heard + delay).await;
                let _ = write.lock().await.write_all(&reply).await;
            });
        }
    }
}

pub(super) fn scripted(tcp: bool, script: Script) -> Opener {
    Box::new(move || {
        let script = script.clone();
        Box::pin(async move {
            let (ours, theirs) = duplex(4096);
            tokio::spawn(serve(theirs, tcp, script));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    })
}

pub(super) fn script(device: impl FnMut(&Request) -> Replies + Send + 'static) -> Script {
    Arc::new(Mutex::new(device))
}

/// After 5 ms.
pub(super) fn soon(reply: Vec<u8>) -> Replies {
    vec![(Duration::from_millis(5), reply)]
}

/// A profile with holding registers at these addresses.
pub(in crate::bus) fn profile(addresses: &[u16]) -> Arc<Profile> {
    let item = |(at, &address): (usize, &u16)| {
        let name = match at {
            0..32 => format!("temperature.{}", at + 1),
            32.. => [
                "power.active",
                "voltage",
                "current",
                "frequency",
                "feed",
                "power.apparent",
                "speed.spindle",
                "power.reactive",
            ][at - 32]
                .to_owned(),
        };
        ProfileItem {
            item: Item::named(&name).unwrap(),
            table: Table::Holding,
            address,
            encoding: Encoding { form: Form::U16, order: Order::Abcd },
            scale: Scale::ONE,
            scale_register: None,
            sentinels: vec![],
            writable: false,
        }
    };
    Arc::new(Profile {
        id: "test/device".into(),
        title: String::new(),
        source: String::new(),
        evidence: Evidence::Datasheet,
        notes: String::new(),
        max_registers: 125,
        items: addresses.iter().enumerate().map(item).collect(),
        identity: vec![],
        settings: vec![],
        examples: vec![],
    })
}

/// A bus of `units` units (ids from 1), each a machine with the items of `profile`, every second.
pub(in crate::bus) fn bus(tcp: bool, units: u8, profile: &Arc<Profile>) -> (BusPlan, Arc<Plan>) {
    let width = u32::try_from(profile.items.len()).unwrap();
    let mut engine = Plan::default();
    let unit = |unit_id: u8| {
        let polls = (0..width).map(|item| PollPlan {
            profile_item: item as usize,
            fed: Fed::One(ItemIndex(u32::from(unit_id - 1) * width + item)),
            period: SECOND,
            ratio: 1.0,
        });
        UnitPlan {
            source: format!("unit-{unit_id}").into(),
            station: Station::Unit(unit_id),
            profile: profile.clone(),
            polls: polls.collect(),
            periods: Vec::new(),
            writable_coils: vec![0],
        }
    };
    for machine in 0..u16::from(units) {
        engine.items.extend(profile.items.iter().map(|item| {
            ItemPlan::new(MachineIndex(machine), Measurand::every(item.item.clone(), SECOND))
        }));
    }
    let link = if tcp {
        Link::Tcp { address: String::new(), baud: None }
    } else {
        let parity = crate::config::plan::Parity::Even;
        Link::Rtu { port: "/nowhere".into(), baud: 9600, parity, stop_bits: 1 }
    };
    let units = (1..=units).map(unit).collect();
    let turnaround = Duration::from_millis(50);
    let (pause, dead_share) = (Duration::ZERO, unit::DEAD_SHARE);
    (BusPlan { id: "test".into(), link, units, turnaround, pause, dead_share }, engine.into())
}

pub(super) struct Bench {
    pub(super) handle: BusHandle,
    pub(super) deliveries: mpsc::Receiver<Delivery>,
}

impl Bench {
    pub(super) fn start(tcp: bool, units: u8, addresses: &[u16], script: Script) -> Self {
        Self::with(tcp, units, addresses, scripted(tcp, script))
    }

    pub(super) fn with(tcp: bool, units: u8, addresses: &[u16], opener: Opener) -> Self {
        let (plan, engine) = bus(tcp, units, &profile(addresses));
        Self::of(&plan, &engine, opener, Memory::none())
    }

    pub(super) fn of(plan: &BusPlan, engine: &Arc<Plan>, opener: Opener, memory: Memory) -> Self {
        let (sink, deliveries) = mpsc::channel(64);
        let (handle, running) =
            prepare(&Arc::new(plan.clone()), engine, (sink, None), opener, memory);
        tokio::spawn(running);
        Self { handle, deliveries }
    }

    pub(super) async fn next(&mut self) -> Delivery {
        self.next_within(60 * SECOND).await
    }

    pub(super) async fn next_within(&mut self, patience: Duration) -> Delivery {
        let delivery = timeout(patience, self.deliveries.recv()).await;
        delivery.expect("a delivery in time").expect("the owner runs")
    }

    /// What `count` deliveries hold, by item.
    pub(super) async fn readings(&mut self, count: usize) -> Vec<(u32, Measured)> {
        let mut readings = Vec::new();
        for _ in 0..count {
            let delivery = self.next().await;
            readings.extend(delivery.readings.into_iter().map(|(item, it)| (item.0, it)));
        }
        readings
    }

    pub(super) async fn write(&self, coil: u16, value: bool) -> Vec<Reply> {
        let (send, mut replies) = mpsc::unbounded_channel();
        let reply = Box::new(move |reply| send.send(reply).unwrap());
        self.handle.write(WriteCoil { unit: 0, coil, value, reply });
        let mut all = Vec::new();
        while let Some(reply) = replies.recv().await {
            all.push(reply);
        }
        all
    }
}

pub(super) fn number(value: u16) -> Measured {
    Ok(Value::Number(f64::from(value)))
}

impl Bench {
    pub(super) async fn until(&mut self, expected: &Measured) {
        let begun = Instant::now();
        while self.next().await.readings[0].1 != *expected {
            assert!(begun.elapsed() < 20 * SECOND, "{expected:?} never came");
        }
    }
}

/// A pseudo-terminal with a device at its far end; dropping it pulls the plug.
pub(super) struct Terminal {
    pub(super) name: std::path::PathBuf,
    pub(super) device: tokio::task::JoinHandle<()>,
}

impl Terminal {
    pub(super) fn plug(script: Script) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap().into();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        #[expect(deprecated, reason = "a file keeps its descriptor; the replacement is unsafe")]
        let master = tokio::io::unix::AsyncFd::new(std::fs::File::from(master)).unwrap();
        let device = tokio::spawn(async move {
            let mut request = Vec::new();
            loop {
                let mut bytes = [0; 8];
                let mut ready = master.readable().await.unwrap();
                match ready.try_io(|file| std::io::Read::read(&mut file.get_ref(), &mut bytes)) {
                    Ok(Ok(count)) => request.extend(&bytes[..count]),
                    // Nobody has the other end open at the moment.
                    Ok(Err(_)) => ready.clear_ready(),
                    Err(_) => {}
                }
                if request.len() >= 8 {
                    let asked = Request::parse(&request.drain(..8).collect::<Vec<_>>(), false);
                    let replies = script.lock().unwrap()(&asked);
                    for (_, reply) in replies {
                        let _ = std::io::Write::write(&mut master.get_ref(), &reply);
                    }
                }
            }
        });
        Self { name, device }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.device.abort();
    }
}

/// A state folder that is not there: nothing is remembered, and nothing can be.
pub(super) fn nowhere() -> std::path::PathBuf {
    "/dev/null/nowhere".into()
}
