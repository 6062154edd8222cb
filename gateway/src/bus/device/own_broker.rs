//! A session at the broker inside a device, over TLS with a pinned certificate (see `pin`).

use std::io;
use std::path::Path;

use andon_adapters::device::Outgoing;
use andon_adapters::protocol::Login;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport,
};
use tokio::sync::mpsc;

use super::mqtt::{bound, connect, message, words};
use super::pin::Pin;
use super::wire::{Ends, News, Opener, Order, Wire};
use crate::config::plan::DevicePlan;

/// The opener of a session at the broker of `plan`'s device.
pub(super) fn opener(
    plan: &DevicePlan,
    host: &str,
    port: u16,
    state_dir: &Path,
    suffix: &str,
) -> Opener {
    let (plan, host, state_dir) = (plan.clone(), host.to_owned(), state_dir.to_owned());
    let client_id = format!("andon-{}{suffix}", plan.source);
    Box::new(move || {
        let pin = Pin::of(&state_dir, &plan.source);
        let mut options = MqttOptions::new(&client_id, &host, port);
        bound(&mut options);
        if let (Login::Mqtt(usual), Some(password)) =
            (plan.protocol.login, &plan.credentials.password)
        {
            options.set_credentials(plan.credentials.user.as_deref().unwrap_or(usual), &password.0);
        }
        let source = plan.source.clone();
        Box::pin(async move {
            let pin = pin?;
            let tls = TlsConfiguration::Rustls(pin.client()?.into());
            options.set_transport(Transport::Tls(tls));
            let (client, events) = connect(options).await?;
            let keeping = tokio::task::spawn_blocking(move || pin.keep(&source));
            keeping.await.map_err(io::Error::other)??;
            Ok(Wire::start(|ends| carry(client, events, ends)))
        })
    })
}

async fn carry(client: AsyncClient, events: EventLoop, Ends { orders, news }: Ends) -> String {
    // Two futures that do not wait for each other: the event loop is polled all the time.
    tokio::select! {
        why = hear(events, news) => why,
        why = send(client, orders) => why,
    }
}

async fn hear(mut events: EventLoop, news: mpsc::Sender<News>) -> String {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if news.send(message(publish)).await.is_err() {
                    return String::new();
                }
            }
            Ok(_) => {}
            Err(error) => return words(&error),
        }
    }
}

async fn send(client: AsyncClient, mut orders: mpsc::Receiver<Order>) -> String {
    while let Some(order) = orders.recv().await {
        let sent = match order {
            Order::Send(Outgoing::Subscribe(filter)) => {
                client.try_subscribe(filter, QoS::AtLeastOnce)
            }
            Order::Send(Outgoing::Publish { topic, payload }) => {
                client.try_publish(topic, QoS::AtLeastOnce, false, payload)
            }
            _ => continue,
        };
        if sent.is_err() {
            return "the device's broker takes nothing".to_owned();
        }
    }
    String::new()
}
