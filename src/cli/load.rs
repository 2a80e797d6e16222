//! # Load: many calls at once, and what became of them
//!
//! ```text
//! count 100000, concurrency 64 ─▶ 64 tasks, each with its next call when the last has ended ─▶ one summary
//! ```
//!
//! What is summed up can be asked for at any time, so Ctrl-C in the middle still says what became of the calls so far.
//! The exit status is that of the first call that failed.
//!
//! Read next: [`tap`](super::tap).

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Failure, fib, sentence};
use crate::{
    codec::ShortString,
    rpc::{CallOptions, RpcClient, RpcError},
};

/// A run that is over sooner than this needs no progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to ask, how often, and how many calls are in flight.
#[derive(Debug, Clone)]
pub struct Load {
    /// The queue of the servers.
    pub queue: ShortString,
    /// The request.
    pub n: u8,
    /// How each call is made.
    pub options: CallOptions,
    /// How many calls.
    pub count: u64,
    /// How many of them at once.
    pub concurrency: u64,
}

/// What became of the calls so far: it can be asked for in the middle of a run, when that is interrupted.
#[derive(Debug)]
pub struct Summary {
    started: Instant,
    asked: u64,
    latencies: Vec<Duration>,
    failed: BTreeMap<&'static str, u64>,
    first: Option<Failure>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            asked: 0,
            latencies: Vec::new(),
            failed: BTreeMap::new(),
            first: None,
        }
    }
}

impl Summary {
    /// Why the first call failed that did.
    pub fn failure(&self) -> Option<&Failure> {
        self.first.as_ref()
    }

    fn add(&mut self, latency: Duration, outcome: Result<(), RpcError>) {
        match outcome {
            Ok(()) => self.latencies.push(latency),
            Err(error) => {
                *self.failed.entry(error.outcome()).or_default() += 1;
                self.first.get_or_insert_with(|| sentence::of_call(&error));
            }
        }
    }
}

/// Calls, and adds every outcome to the summary. A bar on standard error shows how far it is, if that is a terminal and
/// it takes long.
///
/// # Cancel safety
/// A dropped future drops the calls in flight; what ended before is in the summary.
pub async fn run(rpc: &RpcClient, load: &Load, summary: &mut Summary) {
    summary.asked = load.count;
    let bar = bar(load.count);
    let begun = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let (ended, mut outcomes) = tokio::sync::mpsc::channel(1024);
    for _ in 0..load.concurrency.min(load.count) {
        let (rpc, load, begun, ended) = (rpc.clone(), load.clone(), begun.clone(), ended.clone());
        callers.spawn(async move {
            while begun.fetch_add(1, Relaxed) < load.count {
                let started = Instant::now();
                let outcome = call(&rpc, &load).await;
                let _ = ended.send((started.elapsed(), outcome)).await; // the run is being dropped otherwise
            }
        });
    }
    drop(ended);
    let mut shown = std::pin::pin!(sleep(PATIENCE));
    loop {
        tokio::select! {
            outcome = outcomes.recv() => match outcome {
                Some((latency, outcome)) => {
                    summary.add(latency, outcome);
                    bar.inc(1);
                }
                None => break,
            },
            () = &mut shown, if bar.is_hidden() && !shown.is_elapsed() => bar.set_draw_target(ProgressDrawTarget::stderr()),
        }
    }
    bar.finish_and_clear();
}

async fn call(rpc: &RpcClient, load: &Load) -> Result<(), RpcError> {
    let reply = rpc
        .call_with(load.options, &load.queue, load.n.to_string())
        .await?;
    let (number, expected) = (fib::result(&reply.body)?, fib::number(load.n));
    if number == expected {
        Ok(())
    } else {
        let text = format!("expected {expected}, got {number}"); // the reply to another call? RPC-4
        Err(RpcError::Decode(text))
    }
}

fn bar(count: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::hidden());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} calls, {per_sec}, {eta} left");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let (answered, took) = (sorted.len(), self.started.elapsed().as_secs_f64());
        let all = answered as u64 + self.failed.values().sum::<u64>();
        write!(f, "{all} calls in {took:.2} s: {answered} answered")?;
        if all < self.asked {
            write!(f, " (of {} that were asked for)", self.asked)?;
        }
        for (outcome, count) in &self.failed {
            write!(f, ", {count} {outcome}")?;
        }
        let Some(longest) = sorted.last() else {
            return Ok(());
        };
        let percentile = |percent: usize| sorted.get(answered * percent / 100).unwrap_or(longest);
        let [p50, p95, p99] = [50, 95, 99].map(percentile).map(milliseconds);
        let max = milliseconds(longest);
        write!(f, "\nlatency: p50 {p50}, p95 {p95}, p99 {p99}, max {max}")
    }
}

fn milliseconds(time: &Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_percentiles_and_errors_by_kind() {
        let mut summary = Summary::default();
        for latency in 1..=100 {
            summary.add(Duration::from_millis(latency), Ok(()));
        }
        summary.add(
            Duration::ZERO,
            Err(RpcError::Decode("expected a number".into())),
        );
        let text = summary.to_string();
        assert!(text.starts_with("101 calls in "), "{text}");
        assert!(text.contains(": 100 answered, 1 not understood"), "{text}");
        assert!(
            text.ends_with("latency: p50 51.00 ms, p95 96.00 ms, p99 100.00 ms, max 100.00 ms"),
            "{text}"
        );
        assert!(summary.failure().is_some());
    }
}
