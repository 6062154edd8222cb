//! What a device served is in the store: nothing wrong, nothing missing, nothing doubled; through
//! outages of broker and store, and kills of every part.
//!
//! `ANDON_OUTAGE_SECONDS`, `ANDON_BROKER_KILLS`, `ANDON_GATEWAY_KILLS` and `ANDON_RECORDER_KILLS`
//! set the full counts; without them every run does a small share.

use std::time::Duration;

use andon_tests::process::{Dice, count_from_env};
use andon_tests::workshop::SITE;
use anyhow::{Context as _, Result, ensure};

use crate::shop::Shop;

const MINUTE: Duration = Duration::from_secs(60);

fn outage() -> Duration {
    Duration::from_secs(u64::from(count_from_env("ANDON_OUTAGE_SECONDS", 8)))
}

#[test]
fn every_value_that_pymodbus_served_is_in_the_store_once() -> Result<()> {
    let Some(mut shop) = Shop::start("served")? else { return Ok(()) };
    let mut watch = shop.broker.watch(&format!("andon/v1/{SITE}/#"))?.context("mosquitto_sub")?;
    let _recorder = shop.recorder()?;
    let mut gateway = shop.gateway()?;
    shop.wait_for_served(5_000)?;
    let found = shop.compare_with_served()?;
    eprintln!("pymodbus → andon → mosquitto → andon record → victoria-metrics: {found}");
    ensure!(found.is_clean(), "{found}; see {}", shop.dir.display());

    gateway.kill();
    for topic in ["tcp-1/birth", "tcp-1/observation", "tcp-1/state"] {
        watch.wait_for_line(&format!("andon/v1/{SITE}/{topic} "), MINUTE)?;
    }
    let will = watch.wait_for_line("\"online\":false", MINUTE)?;
    ensure!(will.contains("_gateway/status"), "{will}");
    Ok(())
}

#[test]
fn a_broker_that_is_away_and_killed_loses_nothing() -> Result<()> {
    let Some(mut shop) = Shop::start("broker-away")? else { return Ok(()) };
    let _recorder = shop.recorder()?;
    let _gateway = shop.gateway()?;
    shop.wait_for_served(1_000)?;
    shop.broker.kill();
    std::thread::sleep(outage());
    shop.broker.restart()?;
    let mut dice = Dice::seeded("broker kills");
    for _ in 0..count_from_env("ANDON_BROKER_KILLS", 2) {
        std::thread::sleep(Duration::from_millis(1_000 + dice.below(4_000)));
        shop.broker.kill();
        shop.broker.restart()?;
    }
    shop.wait_for_served(1_000)?;
    let found = shop.compare_with_served()?;
    eprintln!("broker away {:?} and killed: {found}", outage());
    ensure!(found.is_clean(), "{found}; see {}", shop.dir.display());
    Ok(())
}

#[test]
fn a_store_that_is_away_loses_nothing() -> Result<()> {
    let Some(mut shop) = Shop::start("store-away")? else { return Ok(()) };
    let _recorder = shop.recorder()?;
    let _gateway = shop.gateway()?;
    shop.wait_for_served(1_000)?;
    shop.store.stop()?;
    std::thread::sleep(outage());
    shop.store.restart()?;
    shop.wait_for_served(1_000)?;
    let found = shop.compare_with_served()?;
    eprintln!("store away {:?}: {found}", outage());
    ensure!(found.is_clean(), "{found}; see {}", shop.dir.display());
    Ok(())
}

#[test]
fn a_gateway_killed_at_random_moments_loses_nothing_that_its_journal_had() -> Result<()> {
    let Some(mut shop) = Shop::start("gateway-kills")? else { return Ok(()) };
    let _recorder = shop.recorder()?;
    let mut dice = Dice::seeded("gateway kills");
    let kills = count_from_env("ANDON_GATEWAY_KILLS", 6);
    for _ in 0..kills {
        let mut gateway = shop.gateway()?;
        std::thread::sleep(Duration::from_millis(300 + dice.below(2_500)));
        gateway.kill();
    }
    let _gateway = shop.gateway()?;
    shop.wait_for_served(1_000)?;
    let (found, invented) = shop.compare_with_journal()?;
    eprintln!("gateway killed {kills} times: {found}, {invented} never served");
    ensure!(found.is_clean() && invented == 0, "{found}; see {}", shop.dir.display());
    Ok(())
}

#[test]
fn a_recorder_killed_at_random_moments_loses_nothing() -> Result<()> {
    let Some(mut shop) = Shop::start("recorder-kills")? else { return Ok(()) };
    let _gateway = shop.gateway()?;
    let mut dice = Dice::seeded("recorder kills");
    let kills = count_from_env("ANDON_RECORDER_KILLS", 4);
    for _ in 0..kills {
        let mut recorder = shop.recorder()?;
        std::thread::sleep(Duration::from_millis(300 + dice.below(2_500)));
        recorder.kill();
    }
    let _recorder = shop.recorder()?;
    shop.wait_for_served(1_000)?;
    let found = shop.compare_with_served()?;
    eprintln!("recorder killed {kills} times: {found}");
    ensure!(found.is_clean(), "{found}; see {}", shop.dir.display());
    Ok(())
}
