//! `andon record`: a recorder alone, between a broker and a store.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tokio::sync::watch;

use super::Usage;
use crate::config::plan::{Secret, StorePlan};
use crate::lock::FolderLock;
use crate::mqtt::LinkOptions;
use crate::recorder::broker::{self, BrokerInputs};
use crate::wire::is_name;

/// The port of MQTT without TLS.
const PORT: u16 = 1883;
/// The port of MQTT with TLS.
const PORT_TLS: u16 = 8883;

/// How a broker is reached.
#[derive(Clone, Debug, Args)]
pub struct BrokerArgs {
    /// The broker, as host or host:port
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:1883")]
    pub broker: String,
    /// User name at the broker
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// PEM file of trusted roots; turns TLS on
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// The options of a client with this id.
    ///
    /// # Errors
    /// When the port is no number or the password cannot be read.
    pub fn link(&self, client_id: String) -> anyhow::Result<LinkOptions> {
        let standard = if self.ca_file.is_some() { PORT_TLS } else { PORT };
        let (host, port) = match self.broker.rsplit_once(':') {
            // An IPv6 address without brackets has colons but no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port.parse().map_err(|_| Usage(format!("\"{port}\" is not a port")))?;
                (host.trim_start_matches('[').trim_end_matches(']'), port)
            }
            _ => (self.broker.as_str(), standard),
        };
        anyhow::ensure!(!host.is_empty(), Usage("--broker names no host".to_owned()));
        let password = self.password_file.as_ref().map(read_secret).transpose()?;
        let login = self.user.clone().map(|user| (user, password.unwrap_or_default()));
        let (host, ca_file) = (host.to_owned(), self.ca_file.clone());
        Ok(LinkOptions { host, port, client_id, login, ca_file })
    }
}

/// A secret from a file, without the newline that editors leave.
fn read_secret(path: &PathBuf) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the secret in {} cannot be read", path.display()))?;
    Ok(Secret(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The arguments of `andon record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Where the messages come from
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Sites to record; "+" is every site
    #[arg(long, value_name = "SITE", required_unless_present = "filter")]
    pub site: Vec<String>,
    /// Topic filters in place of sites, to share a large site between recorders
    #[arg(long, value_name = "FILTER", conflicts_with = "site")]
    pub filter: Vec<String>,
    /// The store, anything that speaks the InfluxDB v2 write API
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// Organisation at the store
    #[arg(long, default_value = "")]
    pub org: String,
    /// Bucket at the store
    #[arg(long, default_value = "andon")]
    pub bucket: String,
    /// File with the store's API token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// This recorder's name: gateways wait for the confirmation of a recorder by its name
    #[arg(long, default_value = "main")]
    pub name: String,
    /// Folder for what is confirmed and for lines that the store refuses
    #[arg(long, value_name = "DIR", default_value = "/var/lib/andon-record")]
    pub state: PathBuf,
}

/// Runs until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the arguments make no sense; never because broker or store are away.
pub async fn run(args: RecordArgs) -> anyhow::Result<()> {
    let wrong = || Usage(format!("--name \"{}\" cannot be part of a topic", args.name));
    anyhow::ensure!(is_name(&args.name), wrong());
    let token = args.token_file.as_ref().map(read_secret).transpose()?.unwrap_or_default();
    let filters =
        if args.filter.is_empty() { broker::filters(&args.site) } else { args.filter.clone() };
    let inputs = BrokerInputs {
        link: args.broker.link(format!("andon-record-{}", args.name))?,
        filters,
        name: args.name,
        store: StorePlan { url: args.store, org: args.org, bucket: args.bucket, token },
        state: args.state,
    };
    // Two of one name would undo each other's watermarks; of different names they may share it.
    let _lock = FolderLock::take(&inputs.state, &format!("{}.lock", inputs.name))
        .context("--state cannot be used")?;
    let (stop, stopped) = watch::channel(false);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let signals = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        let _ = stop.send(true);
        // The recorder ends the race.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = broker::run(inputs, drop, stopped) => ended,
        () = signals => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(broker: &str, ca: bool) -> anyhow::Result<(String, u16)> {
        let args = BrokerArgs {
            broker: broker.to_owned(),
            user: None,
            password_file: None,
            ca_file: ca.then(|| "roots.pem".into()),
        };
        args.link("test".to_owned()).map(|link| (link.host, link.port))
    }

    #[test]
    fn brokers_are_hosts_with_or_without_a_port() {
        assert_eq!(link("pi.local", false).unwrap(), ("pi.local".into(), 1883));
        assert_eq!(link("pi.local", true).unwrap(), ("pi.local".into(), 8883));
        assert_eq!(link("pi.local:1234", true).unwrap(), ("pi.local".into(), 1234));
        assert_eq!(link("[::1]:1884", false).unwrap(), ("::1".into(), 1884));
        assert_eq!(link("::1", false).unwrap(), ("::1".into(), 1883));
        assert!(link("pi.local:x", false).is_err());
        assert!(link("", false).is_err());
    }
}
