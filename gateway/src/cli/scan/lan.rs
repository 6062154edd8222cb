//! `andon scan lan`: printers and plugs in the local network. Asks by multicast DNS and listens
//! for Bambu's announcements; goes from host to host only in a subnet that is named.

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;

use crate::cli::typed;
use crate::scan::proposal::fragments;
use crate::scan::{Proposal, mdns, ssdp, subnet};

/// The arguments of `andon scan lan`.
#[derive(Debug, Args)]
pub(super) struct LanArgs {
    /// How long to listen; printers announce themselves every few seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// The address of this machine in the network to ask, when it has several
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub interface: Ipv4Addr,
    /// Visit every host of this subnet too, at most a /22: a port scan to those who watch it
    #[arg(long, value_name = "NETWORK/BITS")]
    pub subnet: Option<String>,
    /// One JSON array of what was found
    #[arg(long)]
    pub json: bool,
}

/// Looks and prints.
///
/// # Errors
/// When the subnet is none.
pub(super) async fn run(args: LanArgs) -> anyhow::Result<()> {
    let hosts = typed(args.subnet.as_deref().map(subnet::hosts).transpose())?.unwrap_or_default();
    let duration = Duration::from_secs(args.seconds);
    let services = async {
        mdns::browse(args.interface, mdns::GROUP, duration).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "multicast DNS cannot be asked");
            Default::default()
        })
    };
    let [broadcasts, multicasts] =
        ssdp::PORTS.map(|port| announcements(args.interface, port, duration));
    let (services, broadcasts, multicasts, visited) =
        tokio::join!(services, broadcasts, multicasts, subnet::visit(hosts, subnet::DOORS));
    let mut printers = broadcasts;
    printers.extend(multicasts);
    let mut proposals: Vec<Proposal> = Vec::new();
    let found = services.iter().filter_map(mdns::proposal);
    for proposal in found.chain(printers.values().map(ssdp::proposal)).chain(visited?) {
        // A program that is announced under two names, or announced and visited, is one device.
        let same =
            |known: &Proposal| known.host == proposal.host && known.protocol == proposal.protocol;
        if !proposals.iter().any(|known| same(known) && known.port == proposal.port) {
            proposals.push(proposal);
        }
    }
    if args.json {
        crate::cli::say(&serde_json::to_string_pretty(&proposals)?)?;
    } else if proposals.is_empty() {
        tracing::info!("nothing was found; many printers do not announce themselves: try --subnet");
    } else {
        crate::cli::say(fragments(proposals, "home").trim_end())?;
    }
    Ok(())
}

type Printers = std::collections::BTreeMap<String, ssdp::Printer>;

async fn announcements(interface: Ipv4Addr, port: u16, duration: Duration) -> Printers {
    match ssdp::listener(interface, port) {
        Ok(socket) => ssdp::listen(&socket, duration).await,
        Err(error) => {
            tracing::warn!(%error, port, "announcements of Bambu printers cannot be heard");
            Printers::new()
        }
    }
}
