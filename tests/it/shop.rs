//! The workshop of the delivery tests: two pymodbus servers, a broker, a store, and the comparison
//! of what was served or written with what the store holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use andon::journal::{Payload, Reader, Stream};
use andon_tests::andon as binary;
use andon_tests::compare::{self, Difference, ServedValues, StoredValues, served, stored};
use andon_tests::peers::{ModbusLink, ModbusServer, Mosquitto, NullModem, VictoriaMetrics};
use andon_tests::process::{Process, free_port, wait_for, work_dir};
use andon_tests::workshop::{METER, SITE, Workshop, meter_map};
use anyhow::{Context as _, Result};

/// Single precision went over the wire.
const SINGLE_PRECISION: f64 = 1e-6;

/// What a server logged is what the gateway heard, however long the computer stood still between: a
/// shorter patience gives up an answer that is logged already.
const PATIENT: &str = "turnaround = \"10 s\"";

/// How often the servers' logs are gone through while they grow.
const LOOK: Duration = Duration::from_millis(200);

/// How long the store may take to hold what was read, after the reading has ended.
const ARRIVAL: Duration = Duration::from_secs(90);

/// A TCP gateway with eight meters at 12.5 readings of five items a second (500 readings/s), a
/// serial line with two meters, a broker and a store.
pub(crate) struct Shop {
    pub(crate) dir: PathBuf,
    pub(crate) broker: Mosquitto,
    pub(crate) store: VictoriaMetrics,
    pub(crate) config: PathBuf,
    pub(crate) tcp: ModbusServer,
    pub(crate) rtu: ModbusServer,
    _line: NullModem,
}

impl Shop {
    /// Starts everything but andon; `None` where a program is missing.
    pub(crate) fn start(name: &str) -> Result<Option<Self>> {
        let dir = work_dir(name)?;
        let Some(broker) = Mosquitto::start(&dir)? else { return Ok(None) };
        let Some(store) = VictoriaMetrics::start(&dir)? else { return Ok(None) };
        let Some(line) = NullModem::start(&dir)? else { return Ok(None) };
        let port = free_port()?;
        let link = ModbusLink::Tcp(port);
        let units = "1,2,3,4,5,6,7,8";
        let Some(tcp) = ModbusServer::start("pymodbus-tcp", &dir, &link, units, &meter_map())?
        else {
            return Ok(None);
        };
        let link = ModbusLink::Rtu(line.far.clone(), 19200);
        let rtu = ModbusServer::start("pymodbus-rtu", &dir, &link, "1,2", &meter_map())?
            .context("there is a TCP server already")?;
        let mut workshop = Workshop::new(&dir).mqtt(broker.port);
        workshop = workshop.tcp_bus("tcp", port).with(PATIENT);
        workshop = workshop.rtu_bus("rtu", &line.near, 19200).with(PATIENT);
        for unit in 1..=8 {
            workshop = workshop.meter("tcp", unit, "80 ms");
        }
        for unit in 1..=2 {
            workshop = workshop.meter("rtu", unit, "500 ms");
        }
        let config = workshop.write(&dir)?;
        Ok(Some(Self { dir, broker, store, config, tcp, rtu, _line: line }))
    }

    /// Starts `andon run`.
    pub(crate) fn gateway(&self) -> Result<Process> {
        binary::run(&self.dir, &self.config)
    }

    /// Starts `andon record`.
    pub(crate) fn recorder(&self) -> Result<Process> {
        binary::record(&self.dir, self.broker.port, &self.store.url(), SITE)
    }

    /// Waits until the servers have served `count` more values.
    pub(crate) fn wait_for_served(&self, count: usize) -> Result<()> {
        let total = || {
            let count = |log: &Path| served(log).map_or(0, |all| all.values().map(Vec::len).sum());
            count(&self.tcp.served) + count(&self.rtu.served)
        };
        let goal = total() + count;
        wait_for("the devices to be read", ARRIVAL, || {
            std::thread::sleep(LOOK);
            total() >= goal
        })
    }

    /// Ends the serving, waits until the store holds everything that was served, and says what
    /// differs.
    pub(crate) fn compare_with_served(&mut self) -> Result<Difference> {
        self.end_serving()?;
        self.settle(|| self.served())
    }

    /// Ends the serving, waits until the store holds everything that the journal holds, and says
    /// what differs; and whether the store holds anything that was never served.
    pub(crate) fn compare_with_journal(&mut self) -> Result<(Difference, usize)> {
        self.end_serving()?;
        let found = self.settle(|| self.journaled())?;
        let invented = difference(&self.served()?, &stored(&self.store.url())?).wrong;
        Ok((found, invented))
    }

    /// Ends the servers in order: what their logs have was sent.
    fn end_serving(&mut self) -> Result<()> {
        for server in [&mut self.tcp, &mut self.rtu] {
            server.process.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// `expected` is asked at each look: what was read last may still be on its way to the journal.
    fn settle(&self, expected: impl Fn() -> Result<Values>) -> Result<Difference> {
        let look = || Ok(difference(&expected()?, &stored(&self.store.url())?));
        let clean = |found: Result<Difference>| found.is_ok_and(|found| found.is_clean());
        // Failing to settle is judged by the caller, from the difference.
        wait_for("the store", ARRIVAL, || {
            std::thread::sleep(LOOK);
            clean(look())
        })
        .ok();
        let found = look()?;
        if !found.is_clean() {
            tell_series(&expected()?, &stored(&self.store.url())?);
        }
        Ok(found)
    }

    fn served(&self) -> Result<Values> {
        let mut values = Values::new();
        for (bus, server) in [("tcp", &self.tcp), ("rtu", &self.rtu)] {
            served_by(bus, &served(&server.served)?, &mut values);
        }
        Ok(values)
    }

    /// What the journal has written, read from its files.
    fn journaled(&self) -> Result<Values> {
        let mut values = Values::new();
        for record in Reader::open(&self.dir.join("state/journal"))?.records(Stream::Telemetry)? {
            let Payload::Observation(observation) = record.payload else { continue };
            for (item, value) in observation.items {
                if let Some(number) = value.ok().and_then(|value| value.as_number()) {
                    let key = (observation.machine.to_string(), item.to_string());
                    values.entry(key).or_default().push(number);
                }
            }
        }
        Ok(values)
    }
}

/// Values in order, per machine and item.
type Values = BTreeMap<(String, String), Vec<f64>>;

fn served_by(bus: &str, served: &ServedValues, values: &mut Values) {
    for ((unit, address), list) in served {
        if let Some((.., item, factor)) = METER.iter().find(|(_, at, ..)| at == address) {
            let list = list.iter().map(|value| value * factor).collect();
            values.insert((format!("{bus}-{unit}"), (*item).to_owned()), list);
        }
    }
}

fn difference(expected: &Values, stored: &StoredValues) -> Difference {
    let mut total = Difference::default();
    for (key, list) in expected {
        total.add(&compare::compare(list, &values_of(stored, key), SINGLE_PRECISION));
    }
    total
}

/// Says which series differ, and how they end: a value lost on the way and one that never left
/// look alike in a sum.
fn tell_series(expected: &Values, stored: &StoredValues) {
    for (key, list) in expected {
        let found = values_of(stored, key);
        let difference = compare::compare(list, &found, SINGLE_PRECISION);
        if !difference.is_clean() {
            let end = |values: &[f64]| values[values.len().saturating_sub(3)..].to_vec();
            eprintln!("{key:?}: {difference}; ends {:?}, stored {:?}", end(list), end(&found));
        }
    }
}

fn values_of(stored: &StoredValues, key: &(String, String)) -> Vec<f64> {
    stored.get(key).into_iter().flatten().map(|&(_, value)| value).collect()
}
