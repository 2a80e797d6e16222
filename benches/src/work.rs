//! What every peer is asked to do and how it reports it, whichever library it does it with.

use std::{
    collections::HashMap,
    error::Error,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use tokio::{runtime::Builder, sync::oneshot, task::JoinSet};

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser, Clone)]
pub struct Arguments {
    /// `server` answers calls until it is killed, after one line `ready`; the others end with one line of JSON.
    pub role: Role,
    /// Of this library: a channel as the others have one, or `RpcClient` and `RpcServer`.
    #[arg(long, default_value = "channel")]
    pub api: Api,
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub url: String,
    #[arg(long, default_value = "perf.amqp-rpc")]
    pub queue: String,
    #[arg(long, default_value_t = 1)]
    pub prefetch: u16,
    #[arg(long, default_value_t = 1000)]
    pub calls: usize,
    #[arg(long, default_value_t = 10_000)]
    pub count: usize,
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    #[arg(long, default_value_t = 16)]
    pub body: usize,
    #[arg(long, default_value = "auto")]
    pub ack: Ack,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Role {
    Server,
    Client,
    Publish,
    Consume,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Api {
    Channel,
    Rpc,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Ack {
    Auto,
    Manual,
}

impl Arguments {
    /// Those before the ones that count.
    pub fn calls_to_warm_up(&self) -> usize {
        self.concurrency.max(200)
    }
}

/// Does the work on one thread, or on several if `BENCH_RT` says `multi`.
///
/// One connection keeps one thread busy, and a wake-up within a thread is cheaper than one across.
pub fn run(work: impl Future<Output = Outcome<()>> + Send + 'static) -> Outcome<()> {
    let mut runtime = match std::env::var("BENCH_RT").as_deref() {
        Ok("multi") => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = runtime.enable_io().enable_time().build()?;
    // What `block_on` runs itself is woken through the reactor, at one more system call for each reply; a task is not.
    runtime.block_on(async { tokio::spawn(work).await? })
}

/// Who waits for which correlation id.
#[derive(Default)]
pub struct Pending {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<usize>>>,
}

impl Pending {
    /// A fresh correlation id, and where the length of its reply will come.
    pub fn expect(&self) -> Outcome<(String, oneshot::Receiver<usize>)> {
        let (sender, reply) = oneshot::channel();
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        self.waiting
            .lock()
            .map_err(|_| "poisoned")?
            .insert(id, sender);
        Ok((id.to_string(), reply))
    }

    /// A reply of `length` octets came to this id.
    pub fn answer(&self, id: &str, length: usize) {
        let waiting = id
            .parse()
            .ok()
            .and_then(|id: u64| self.waiting.lock().ok()?.remove(&id));
        if let Some(call) = waiting {
            let _ = call.send(length);
        }
    }
}

/// Warms up, measures and reports.
pub async fn measure_calls<F, C>(peer: &str, arguments: &Arguments, call: F) -> Outcome<()>
where
    F: Fn() -> C + Clone + Send + Sync + 'static,
    C: Future<Output = Outcome<()>> + Send + 'static,
{
    run_calls(
        arguments.calls_to_warm_up(),
        arguments.concurrency,
        call.clone(),
    )
    .await?;
    let window = Window::open()?;
    let latencies = run_calls(arguments.calls, arguments.concurrency, call).await?;
    report_calls(peer, arguments, window, latencies)
}

pub async fn run_calls<F, C>(calls: usize, concurrency: usize, call: F) -> Outcome<Vec<Duration>>
where
    F: Fn() -> C + Clone + Send + Sync + 'static,
    C: Future<Output = Outcome<()>> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..concurrency {
        let (call, next) = (call.clone(), next.clone());
        callers.spawn(async move {
            let mut latencies = Vec::with_capacity(calls / concurrency + 1);
            while next.fetch_add(1, Ordering::Relaxed) < calls {
                let started = Instant::now();
                call().await?;
                latencies.push(started.elapsed());
            }
            Outcome::Ok(latencies)
        });
    }
    let mut all = Vec::with_capacity(calls);
    while let Some(latencies) = callers.join_next().await {
        all.extend(latencies??);
    }
    Ok(all)
}

pub fn report_calls(
    peer: &str,
    arguments: &Arguments,
    window: Window,
    mut latencies: Vec<Duration>,
) -> Outcome<()> {
    let report = window.close()?;
    let mut quantile = |q: f64| {
        let at = ((latencies.len() - 1) as f64 * q) as usize;
        latencies.select_nth_unstable(at).1.as_secs_f64() * 1e6
    };
    let (p50, p99, max) = (quantile(0.5), quantile(0.99), quantile(1.0));
    println!(
        "{}",
        json!({
            "peer": peer, "role": "rpc", "calls": arguments.calls, "concurrency": arguments.concurrency,
            "body": arguments.body, "secs": report.secs, "calls_per_s": arguments.calls as f64 / report.secs,
            "p50_us": p50, "p99_us": p99, "max_us": max,
            "cpu_user_s": report.user, "cpu_sys_s": report.system,
        })
    );
    Ok(())
}

pub fn report_flow(peer: &str, role: &str, arguments: &Arguments, window: Window) -> Outcome<()> {
    let report = window.close()?;
    let ack = if arguments.ack == Ack::Manual {
        "manual"
    } else {
        "auto"
    };
    println!(
        "{}",
        json!({
            "peer": peer, "role": role, "count": arguments.count, "body": arguments.body, "ack": ack,
            "secs": report.secs, "msgs_per_s": arguments.count as f64 / report.secs,
            "cpu_user_s": report.user, "cpu_sys_s": report.system,
        })
    );
    Ok(())
}

/// A stretch of wall time, and the processor time used in it.
pub struct Window {
    started: Instant,
    user: f64,
    system: f64,
}

struct Report {
    secs: f64,
    user: f64,
    system: f64,
}

impl Window {
    pub fn open() -> Outcome<Self> {
        let (user, system) = processor_time()?;
        Ok(Self {
            started: Instant::now(),
            user,
            system,
        })
    }

    fn close(self) -> Outcome<Report> {
        let secs = self.started.elapsed().as_secs_f64();
        let (user, system) = processor_time()?;
        Ok(Report {
            secs,
            user: user - self.user,
            system: system - self.system,
        })
    }
}

fn processor_time() -> Outcome<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}
