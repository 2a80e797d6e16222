//! What a recorder of the `metrics` facade hears, and what a snapshot says.

use std::{collections::BTreeMap, time::Duration};

use amqp_rpc::{
    codec::QueueDeclare,
    rpc::{CallOptions, HandlerError, Request, RpcError, metrics::describe},
    short,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::World;

/// What was counted so far, by name and outcome: of a histogram, how many values it has.
struct Heard {
    snapshotter: Snapshotter,
    numbers: BTreeMap<String, i64>,
}

impl Heard {
    /// A snapshot tells what is new since the last.
    fn so_far(&mut self) -> BTreeMap<String, i64> {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let outcome = key
                .key()
                .labels()
                .map(|label| format!("{{{}={}}}", label.key(), label.value()));
            let name = format!("{}{}", key.key().name(), outcome.collect::<String>());
            *self.numbers.entry(name).or_default() += match value {
                DebugValue::Counter(number) => number.cast_signed(),
                DebugValue::Gauge(number) => number.to_string().parse().unwrap(),
                DebugValue::Histogram(values) => i64::try_from(values.len()).unwrap(),
            };
        }
        self.numbers.retain(|_, number| *number != 0);
        self.numbers.clone()
    }
}

async fn answer(request: Request) -> Result<&'static str, HandlerError> {
    match &request.body[..] {
        b"panic" => panic!("as it was told"),
        b"no" => Err(HandlerError::new("no", "no")),
        _ => Ok("yes"),
    }
}

#[tokio::test]
async fn each_outcome_is_counted_once_on_both_sides() {
    let recorder = DebuggingRecorder::new();
    let mut heard = Heard {
        snapshotter: recorder.snapshotter(),
        numbers: BTreeMap::new(),
    };
    let _installed = metrics::set_default_local_recorder(&recorder);
    let world = World::new().await;
    let monitor = world.serve("rpc", answer).await;
    let idle = world.connection.open_channel().await.unwrap();
    idle.queue_declare(QueueDeclare {
        queue: short!("idle"),
        ..Default::default()
    })
    .await
    .unwrap();
    let rpc = world.client().await;

    for (queue, body, outcome) in [
        ("rpc", "yes", "answered"),
        ("rpc", "yes", "answered"),
        ("rpc", "no", "remote error"),
        ("rpc", "panic", "remote error"),
        ("nowhere", "", "unroutable"),
        ("idle", "", "timeout"),
    ] {
        let options = if queue == "idle" {
            CallOptions::within(Duration::from_millis(1))
        } else {
            super::PATIENTLY
        };
        let ended = rpc.call_with(options, queue, body).await;
        assert_eq!(
            ended
                .as_ref()
                .map_or_else(RpcError::outcome, |_| "answered"),
            outcome,
            "{queue} {body}"
        );
    }
    let mut dropped = Box::pin(rpc.call("idle", ""));
    tokio::select! { biased; _ = &mut dropped => panic!("answered"), () = tokio::task::yield_now() => {} }
    let pending = heard.so_far()["amqp_rpc_client_pending_calls"];
    assert_eq!((pending, rpc.stats().pending), (1, 1));
    drop(dropped);

    let calls = |outcome| format!("amqp_rpc_client_calls_total{{outcome={outcome}}}");
    let requests = |outcome| format!("amqp_rpc_server_requests_total{{outcome={outcome}}}");
    let expected = BTreeMap::from([
        (calls("answered"), 2),
        (calls("remote error"), 2),
        (calls("unroutable"), 1),
        (calls("timeout"), 1),
        (calls("dropped"), 1),
        ("amqp_rpc_client_latency_seconds".into(), 4),
        (requests("served"), 2),
        (requests("failed"), 1),
        (requests("panicked"), 1),
    ]);
    assert_eq!(heard.so_far(), expected);

    let (stats, served) = (rpc.stats(), monitor.stats());
    assert_eq!(
        (
            stats.answered,
            stats.remote_errors,
            stats.unroutable,
            stats.timed_out
        ),
        (2, 2, 1, 1)
    );
    assert_eq!((stats.dropped, stats.ended(), stats.pending), (1, 7, 0));
    assert_eq!(
        (
            served.served,
            served.failed,
            served.panicked,
            served.running
        ),
        (2, 1, 1, 0)
    );
    let latency = stats.latency;
    assert_eq!(latency.calls, 4);
    assert!(
        Duration::ZERO < latency.p50 && latency.p50 <= latency.p95,
        "{latency:?}"
    );
    assert!(
        latency.p95 <= latency.p99 && latency.p99 <= latency.max,
        "{latency:?}"
    );
}

/// The table of the documentation, the descriptions, and what is counted, are about the same names.
#[tokio::test]
async fn every_name_is_in_the_table_and_is_described() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let table = include_str!("../../src/rpc/metrics.rs");
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once("` | "));
    let mut documented: Vec<_> = rows
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
        .collect();

    describe();
    let world = World::new().await;
    world.serve("rpc", answer).await;
    world.client().await.call("rpc", "").await.unwrap();
    let heard = snapshotter.snapshot().into_vec();
    for (key, unit, description, _) in heard {
        let name = key.key().name().to_owned();
        assert!(
            unit.is_some() && description.is_some(),
            "{name} is not described"
        );
        let kind = format!("{:?}", key.kind()).to_lowercase();
        assert!(
            documented.contains(&(&name, &kind)),
            "{name} {kind} is not in the table"
        );
    }
    let sources = concat!(
        include_str!("../../src/rpc/stats.rs"),
        include_str!("../../src/rpc/monitor.rs")
    );
    documented.retain(|(name, _)| !sources.contains(&format!("\"{name}\"")));
    assert_eq!(documented, [], "what is in the table is counted");
    let names = sources
        .split('"')
        .filter(|text| text.starts_with("amqp_rpc_"));
    for name in names {
        assert!(
            table.contains(&format!("//! | `{name}`")) && table.contains(&format!("(\"{name}\",")),
            "{name}"
        );
    }
}
