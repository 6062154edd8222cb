//! The demo: the whole of andon on a simulated workshop.

mod broker;
mod world;

use crate::cli::demo::DemoArgs;

/// Runs the demo.
///
/// # Errors
/// Always, for now.
pub async fn run(_args: DemoArgs, _stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    anyhow::bail!("the demo is on its way")
}
