//! The demo: the whole of andon on a simulated workshop.
//!
//! Nothing on the path is special to it. The devices of [`world`] are served by the simulator: meters
//! on a loopback TCP port and a paced pseudo-terminal, a printer over HTTP, a router on a
//! pseudo-terminal, a plug at the demo's broker; an ordinary configuration (`andon.toml` in this
//! folder) is checked as any other; the gateway reads, decides, writes and publishes as it does in
//! a workshop. Only the broker is the demo's own.

mod broker;
mod narrator;
mod printer;
mod router;
mod shop;
mod world;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::cli::demo::DemoArgs;
use crate::cli::say;
use crate::clock;
use crate::config::plan::{Plan, Secret, StorePlan};
use crate::run::Gateway;

use narrator::Narrator;
use shop::Shop;

/// The demo's configuration; places in capitals are filled in at the start.
const CONFIGURATION: &str = include_str!("andon.toml");

/// Runs until `stop` resolves or the demo's time is over; then says in one line what happened.
///
/// # Errors
/// When a loopback port, a pseudo-terminal or a temporary folder cannot be had.
pub async fn run(args: DemoArgs, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let broker = broker::start()?;
    let shop = Shop::open(broker).context("the simulated devices cannot be served")?;
    let plan = plan(&args, &folder.0, broker, &shop)?;
    let token = plan.state_dir.join("operator.token");
    // Nothing of an earlier demo may be taken for this one's: its journal is gone.
    let gateway = Gateway::start(plan, clock::fresh_boot_id()?).await?;
    let board = gateway.board();
    say(&format!("board: http://{board}"))?;
    say(&format!("mqtt: {broker}, topics andon/v1/demo/#"))?;
    say(&format!(
        "reset the laser's stop with: andon alarms reset laser-hot --reason \"pump repaired\" \
         --url http://{board} --token-file {}",
        token.display()
    ))?;
    let started = Instant::now();
    let narrator = Narrator::new(started, gateway.journal());
    let stage = narrator.stage();
    let end = async {
        match args.length {
            Some(length) => tokio::time::sleep_until(started + length).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop => {}
        () = end => {}
        () = shop.live(&stage) => {}
        () = narrator.tell() => {}
    }
    narrator.catch_up();
    let summary = narrator.summary(started.elapsed());
    gateway.stop().await;
    say(&summary)?;
    Ok(())
}

fn plan(args: &DemoArgs, folder: &Path, broker: SocketAddr, shop: &Shop) -> anyhow::Result<Plan> {
    let state = folder.join("state");
    let text = CONFIGURATION
        .replace("1883 # BROKER", &broker.port().to_string())
        .replace("502 # PANEL", &shop.panel().port().to_string())
        .replace("80 # PRINTER", &shop.printer().port().to_string())
        .replace("\"LINE\"", &format!("{:?}", shop.line().display().to_string()))
        .replace("\"ROUTER\"", &format!("{:?}", shop.router().display().to_string()))
        .replace("\"LISTEN\"", &format!("\"{}\"", args.listen))
        .replace("\"STATE\"", &format!("{:?}", state.display().to_string()));
    let file = folder.join("andon.toml");
    fs::write(&file, text)?;
    let key = folder.join("printer-a.key");
    fs::write(&key, shop::PRINTER_KEY)?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let mut plan = match crate::config::load_with(&file, std::iter::empty()) {
        Ok(loaded) => loaded.plan,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("the demo's own configuration is broken:\n{}", problems.join("\n"));
        }
    };
    plan.store = args.store.as_ref().map(|url| StorePlan {
        url: url.clone(),
        org: String::new(),
        bucket: "andon".to_owned(),
        token: Secret::default(),
    });
    Ok(plan)
}

/// A temporary folder that goes with the demo.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("andon-demo-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left-overs in the temporary folder are the system's to clear.
        fs::remove_dir_all(&self.0).ok();
    }
}
