//! The line protocol against a real store, VictoriaMetrics, where it is installed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use andon_engine::value::{Measured, Unavailable, Value};
use tokio::time::Instant;

use super::fake::folder;
use super::{Store, Writer, line};
use crate::config::plan::{Secret, StorePlan};

const PROGRAM: &str = "/usr/bin/victoria-metrics";
const NOON: i64 = 1_790_000_000_000;

struct Victoria(Child, String);

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Victoria {
    async fn start() -> Option<Self> {
        if !std::path::Path::new(PROGRAM).exists() {
            crate::testing::skip("victoria-metrics is not installed");
            return None;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let child = Command::new(PROGRAM)
            .arg(format!("-httpListenAddr={address}"))
            .arg("-retentionPeriod=100y")
            .arg("-dedup.minScrapeInterval=1ms")
            .arg(format!("-storageDataPath={}", folder("victoria").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let store = Self(child, format!("http://{address}"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while reqwest::get(format!("{}/health", store.1)).await.is_err() {
            assert!(Instant::now() < deadline, "victoria-metrics does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(store)
    }

    /// The samples of a series, as `(unix ms, value)`.
    async fn samples(&self, series: &str) -> Vec<(i64, f64)> {
        reqwest::get(format!("{}/internal/force_flush", self.1)).await.unwrap();
        let client = reqwest::Client::new();
        let request = client.get(format!("{}/api/v1/export", self.1));
        let query = [("match[]", series), ("reduce_mem_usage", "0")];
        let text = request.query(&query).send().await.unwrap().text().await.unwrap();
        let mut samples = Vec::new();
        for line in text.lines() {
            let exported: serde_json::Value = serde_json::from_str(line).unwrap();
            let times = exported["timestamps"].as_array().unwrap().iter();
            let values = exported["values"].as_array().unwrap();
            let pair = |(t, v): (&serde_json::Value, &serde_json::Value)| {
                (t.as_i64().unwrap(), v.as_f64().unwrap())
            };
            samples.extend(times.zip(values).map(pair));
        }
        samples
    }
}

#[tokio::test]
async fn what_is_sent_twice_is_there_once_and_absence_is_no_zero() {
    let Some(victoria) = Victoria::start().await else { return };
    let plan = StorePlan {
        url: victoria.1.clone(),
        org: String::new(),
        bucket: "andon".into(),
        token: Secret::default(),
    };
    let dead = folder("victoria-dead").join("letters.lp");
    let mut writer = Writer::new(Store::new(&plan).unwrap(), dead.clone());
    let lines: Vec<String> = (0i64..1000)
        .map(|n| {
            let tube: Measured = match n % 2 {
                0 => Ok(Value::Number(20.25)),
                _ => Err(Unavailable::Timeout),
            };
            let power: Measured = Ok(Value::Number(n as f64 + 0.5));
            let mut out = String::new();
            let items = [("power.active", &power), ("temperature.tube", &tube)];
            line::observation(&mut out, "shop", "laser", NOON + n * 1000, items);
            out
        })
        .collect();
    for _ in 0..3 {
        writer.commit(&lines).await;
    }
    let series = |field: &str| format!(r#"{{__name__="andon_{field}",machine="laser"}}"#);
    let power = victoria.samples(&series("power.active")).await;
    let expected: Vec<_> = (0i64..1000).map(|n| (NOON + n * 1000, n as f64 + 0.5)).collect();
    assert_eq!(power, expected);
    let tube = victoria.samples(&series("temperature.tube")).await;
    assert_eq!(tube.len(), 500, "absent is absent");
    assert!(tube.iter().all(|(_, value)| (*value - 20.25).abs() < f64::EPSILON));
    let why = victoria.samples(&series("temperature.tube.unavailable")).await;
    assert_eq!(why.len(), 500);
    assert!(!dead.exists());
}
