//! Streams over TCP.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const TCP: Reach = Reach::Stream { baud: 115_200, port: 23 };

pub(super) fn stream() -> &'static Protocol {
    protocol!(TCP, Login::None)
}

async fn listen() -> (TcpListener, Place) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, net(port))
}

async fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    BufReader::new(timeout(SOON, listener.accept()).await.unwrap().unwrap().0)
}

async fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    timeout(SOON, stream.read_line(&mut line)).await.unwrap().unwrap();
    line.trim().to_owned()
}

async fn say(stream: &mut BufReader<TcpStream>, words: &str) {
    stream.get_mut().write_all(words.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_says_why_and_comes_back() {
    let (listener, place) = listen().await;
    let mut bench = Bench::start(&plan(stream(), place), &[], Path::new("/nonexistent"));
    let mut first = accept(&listener).await;
    assert_eq!(line(&mut first).await, "?");
    say(&mut first, "T 2").await;
    say(&mut first, "1.5\nSTATE running\n").await;
    bench.until(0, &number(21.5)).await;
    bench.until(1, &Ok(Value::Text("running".into()))).await;
    bench.status(|status| status.state == DeviceState::Answering).await;

    say(&mut first, "T 9").await;
    drop(first);
    bench.until(0, &Err(Unavailable::Disconnected)).await;
    let mut second = accept(&listener).await;
    assert_eq!(line(&mut second).await, "?");
    say(&mut second, "9\nT 30\n").await;
    bench.until(0, &number(30.0)).await;
    let status = bench.handle.status();
    assert_eq!(status.trouble.as_deref(), Some("not understood: 9"), "the old half is void");
}

#[tokio::test]
async fn values_of_an_absent_device_are_disconnected_every_period() {
    let (listener, place) = listen().await;
    drop(listener);
    let mut bench = Bench::start(&plan(stream(), place), &[], Path::new("/nonexistent"));
    for _ in 0..3 {
        bench.until(0, &Err(Unavailable::Disconnected)).await;
        bench.until(2, &Err(Unavailable::Disconnected)).await;
    }
    let status = bench.status(|status| status.state == DeviceState::Down).await;
    assert!(status.why().unwrap().contains("refused"));
    assert!(status.down.unwrap().contains("refused"));
    bench.stop(Stop::Emergency);
    assert!(failed_with(&bench.reply().await, "not connected"));
}

#[tokio::test]
async fn a_device_that_only_listens_is_shown_as_silent() {
    let (listener, place) = listen().await;
    let bench = Bench::start(&plan(stream(), place), &[], Path::new("/nonexistent"));
    let _mute = accept(&listener).await;
    let silent = |status: &DeviceStatus| {
        status.state == DeviceState::Silent && status.down.as_deref() == Some("it does not answer")
    };
    bench.status(silent).await;
}

#[tokio::test]
async fn a_stop_goes_out_between_polls_and_is_confirmed_in_two_steps() {
    let (listener, place) = listen().await;
    let mut slow = plan(stream(), place);
    slow.period = Duration::from_secs(3600);
    let mut bench = Bench::start(&slow, &[], Path::new("/nonexistent"));
    let mut device = accept(&listener).await;
    assert_eq!(line(&mut device).await, "?");
    bench.stop(Stop::Emergency);
    assert_eq!(line(&mut device).await, "emergency");
    say(&mut device, "accepted\n").await;
    assert_eq!(bench.reply().await, Reply::Echoed);
    say(&mut device, "stands\n").await;
    assert_eq!(bench.reply().await, Reply::ReadBack(true));

    bench.stop(Stop::Pause);
    assert!(failed_with(&bench.reply().await, "allow-list"));
    bench.stop(Stop::Emergency);
    assert_eq!(line(&mut device).await, "emergency");
    drop(device);
    assert!(failed_with(&bench.reply().await, "connection was lost"));
}

#[tokio::test]
async fn a_stop_goes_out_although_the_engine_takes_nothing() {
    let (listener, place) = listen().await;
    let (sink, _full) = mpsc::channel(1);
    let shared = Runtime::start().unwrap();
    let plan = plan(stream(), place);
    let handle =
        start_device(&plan, &[], &engine(), Path::new("/nonexistent"), sink, &shared).unwrap();
    let mut device = accept(&listener).await;
    say(&mut device, &"T 1\n".repeat(100)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    handle.stop(Stop::Emergency, Box::new(|_| {}));
    let found = async { while line(&mut device).await != "emergency" {} };
    timeout(SOON, found).await.unwrap();
}

#[tokio::test]
async fn a_stop_is_confirmed_although_the_engine_takes_nothing_and_the_device_talks_on() {
    let (listener, place) = listen().await;
    let (sink, _full) = mpsc::channel(1);
    let shared = Runtime::start().unwrap();
    let plan = plan(stream(), place);
    let handle =
        start_device(&plan, &[], &engine(), Path::new("/nonexistent"), sink, &shared).unwrap();
    let mut device = accept(&listener).await;
    while handle.status().state == DeviceState::Down {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (replied, mut replies) = mpsc::unbounded_channel();
    handle.stop(Stop::Emergency, Box::new(move |reply| drop(replied.send(reply))));
    let found = async { while line(&mut device).await != "emergency" {} };
    timeout(SOON, found).await.unwrap();
    // A delivery a portion: more than the owner keeps for the engine, stop or none.
    let talk = "T 1\n".repeat(200_000) + "accepted\nstands\n";
    timeout(SOON, say(&mut device, &talk)).await.unwrap();
    for expected in [Reply::Echoed, Reply::ReadBack(true)] {
        assert_eq!(timeout(SOON, replies.recv()).await.unwrap().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_stop_that_nobody_answers_fails_in_time() {
    let (listener, place) = listen().await;
    let mut bench = Bench::start(&plan(stream(), place), &[], Path::new("/nonexistent"));
    let _mute = accept(&listener).await;
    bench.status(|status| status.state != DeviceState::Down).await;
    bench.stop(Stop::Emergency);
    assert!(failed_with(&bench.reply().await, "not confirmed"));
}

#[tokio::test]
async fn the_last_stop_goes_out_before_the_owner_ends() {
    let (listener, place) = listen().await;
    let bench = Bench::start(&plan(stream(), place), &[], Path::new("/nonexistent"));
    let mut device = accept(&listener).await;
    bench.status(|status| status.state != DeviceState::Down).await;
    bench.stop(Stop::Emergency);
    let Bench { handle, deliveries, .. } = bench;
    drop((handle, deliveries));
    let found = async { while line(&mut device).await != "emergency" {} };
    timeout(SOON, found).await.unwrap();
}

#[tokio::test]
async fn a_look_shows_what_was_said_beside_what_was_heard() {
    let (listener, place) = listen().await;
    let answering = tokio::spawn(async move {
        let mut device = accept(&listener).await;
        assert_eq!(line(&mut device).await, "?");
        let long = "y".repeat(1000);
        say(&mut device, &format!("T 20\nSTATE running\nodd\u{7}words\n{long}")).await;
        device
    });
    let plan = plan(stream(), place);
    let probed = probe_device(&plan, &[], Path::new("/nonexistent"), SOON).await.unwrap();
    assert!(probed.said.contains(&("temperature.1".into(), number(20.0))));
    assert_eq!(probed.raw[..3], ["T 20", "STATE running", "oddwords"]);
    assert!(probed.raw.iter().all(|line| line.len() <= 401));
    assert!(probed.trouble.unwrap().contains("not understood"));
    drop(answering);

    let refused = probe_device(&plan, &[], Path::new("/nonexistent"), SOON).await;
    assert!(refused.is_err());
}
