//! One AMQP peer that does one kind of work and reports it as a line of JSON, so that a harness can run it beside the
//! peers of other libraries.
//!
//! `--api channel` does exactly what they do: no confirms, nothing mandatory, reply then ack. `--api rpc` is
//! `RpcClient` and `RpcServer` as a user gets them.

use std::{
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use amqp_rpc::{
    client::{Channel, Connection, Consumer, Message, Received},
    codec::{BasicConsume, Properties, QueueDeclare, ShortString},
    rpc::{Request, RpcClient, RpcServer, RpcServerOptions},
};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser, Clone)]
struct Arguments {
    role: Role,
    #[arg(long, default_value = "channel")]
    api: Api,
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    url: String,
    #[arg(long, default_value = "perf.amqp-rpc")]
    queue: String,
    #[arg(long, default_value_t = 1)]
    prefetch: u16,
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    #[arg(long, default_value_t = 16)]
    body: usize,
    #[arg(long, default_value = "auto")]
    ack: Ack,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Server,
    Client,
    Publish,
    Consume,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Api {
    Channel,
    Rpc,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Ack {
    Auto,
    Manual,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    // One connection keeps one thread busy, and a wake-up within a thread is cheaper than one across.
    let mut runtime = match std::env::var("BENCH_RT").as_deref() {
        Ok("multi") => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_io().enable_time().build()?;
    // What `block_on` runs itself is woken through the reactor, at one more system call for each reply; a task is not.
    runtime.block_on(async { tokio::spawn(run(arguments)).await? })
}

async fn run(arguments: Arguments) -> Outcome<()> {
    match (arguments.role, arguments.api) {
        (Role::Server, Api::Channel) => serve_channel(arguments).await,
        (Role::Server, Api::Rpc) => serve_rpc(arguments).await,
        (Role::Client, Api::Channel) => call_channel(arguments).await,
        (Role::Client, Api::Rpc) => call_rpc(arguments).await,
        (Role::Publish, _) => publish(arguments).await,
        (Role::Consume, _) => consume(arguments).await,
    }
}

async fn open(arguments: &Arguments) -> Outcome<(Connection, Channel)> {
    let connection = Connection::open(&arguments.url).await?;
    let channel = connection.open_channel().await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str, passive: bool) -> Outcome<()> {
    let declare = QueueDeclare { queue: queue.try_into()?, auto_delete: !passive, passive, ..Default::default() };
    channel.queue_declare(declare).await?;
    Ok(())
}

async fn serve_channel(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel.qos(arguments.prefetch).await?;
    let mut requests = channel.consume(arguments.queue.as_str()).await?;
    println!("ready");
    while let Some(request) = requests.next().await {
        let (received, acker) = request?.into_parts();
        let Message { properties, body } = received.message;
        let reply_to = properties.reply_to.unwrap_or_default();
        let properties = Properties { correlation_id: properties.correlation_id, ..Default::default() }.into();
        channel.publish("", reply_to, Message { properties, body }).await?;
        acker.ack().await?;
    }
    Ok(())
}

async fn serve_rpc(arguments: Arguments) -> Outcome<()> {
    let (connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    let options = RpcServerOptions { prefetch: arguments.prefetch, ..Default::default() };
    let server = RpcServer::with_options(&connection, arguments.queue.as_str(), options).await?;
    println!("ready");
    server.serve(|request: Request| async move { Ok(request.body) }, std::future::pending()).await?;
    Ok(())
}

async fn call_channel(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    let declare = QueueDeclare { exclusive: true, ..Default::default() };
    let reply_to = channel.queue_declare(declare).await?.queue;
    let consume = BasicConsume { queue: reply_to.clone(), ..Default::default() };
    let replies = channel.consume_no_ack(consume).await?;
    let queue = ShortString::try_from(arguments.queue.as_str())?;
    let body = vec![b'x'; arguments.body].into();
    let began = vec![Instant::now(); arguments.concurrency];
    let mut caller = Caller { channel, replies, queue, reply_to, body, began };
    caller.run(arguments.calls_to_warm_up()).await?;
    let window = Window::open()?;
    let latencies = caller.run(arguments.calls).await?;
    report_calls("amqp-rpc", &arguments, window, latencies)
}

/// One task that keeps calls in flight: whatever reply comes makes room for the next request.
struct Caller {
    channel: Channel,
    replies: Consumer<Received>,
    queue: ShortString,
    reply_to: ShortString,
    body: Bytes,
    /// When the call in each place began. The correlation id is the place.
    began: Vec<Instant>,
}

impl Caller {
    async fn run(&mut self, calls: usize) -> Outcome<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(calls);
        let first = self.began.len().min(calls);
        for place in 0..first {
            self.request(place).await?;
        }
        let mut sent = first;
        while latencies.len() < calls {
            let reply = self.replies.next().await.ok_or("the replies have ended")??;
            if reply.body().len() != self.body.len() {
                return Err("a reply of another length".into());
            }
            let id = reply.properties().correlation_id.as_ref().and_then(|id| id.as_str().ok()?.parse().ok());
            let place: usize = id.ok_or("a reply to nothing")?;
            latencies.push(self.began.get(place).ok_or("a reply to nothing")?.elapsed());
            if sent < calls {
                self.request(place).await?;
                sent += 1;
            }
        }
        Ok(latencies)
    }

    async fn request(&mut self, place: usize) -> Outcome<()> {
        let correlation_id = Some(ShortString::try_from(itoa::Buffer::new().format(place))?);
        let reply_to = Some(self.reply_to.clone());
        let properties = Properties { correlation_id, reply_to, ..Default::default() };
        self.began[place] = Instant::now();
        Ok(self.channel.publish("", &self.queue, Message::new(properties, self.body.clone())).await?)
    }
}

async fn call_rpc(arguments: Arguments) -> Outcome<()> {
    let connection = Connection::open(&arguments.url).await?;
    let rpc = RpcClient::new(&connection).await?;
    let queue = ShortString::try_from(arguments.queue.as_str())?;
    let caller = RpcCaller { rpc, queue, body: vec![b'x'; arguments.body].into(), concurrency: arguments.concurrency };
    caller.run(arguments.calls_to_warm_up()).await?;
    let window = Window::open()?;
    let latencies = caller.run(arguments.calls).await?;
    report_calls("amqp-rpc/rpc", &arguments, window, latencies)
}

/// One task that keeps calls in flight, as `Caller` does.
struct RpcCaller {
    rpc: RpcClient,
    queue: ShortString,
    body: Bytes,
    concurrency: usize,
}

impl RpcCaller {
    async fn run(&self, calls: usize) -> Outcome<Vec<Duration>> {
        let left = AtomicUsize::new(calls);
        let callers = (0..self.concurrency).map(|_| self.call_while(&left));
        let mut callers: FuturesUnordered<_> = callers.collect();
        let mut all = Vec::with_capacity(calls);
        while let Some(latencies) = callers.try_next().await? {
            all.extend(latencies);
        }
        Ok(all)
    }

    async fn call_while(&self, left: &AtomicUsize) -> Outcome<Vec<Duration>> {
        let mut latencies = Vec::new();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let began = Instant::now();
            let reply = self.rpc.call(&self.queue, self.body.clone()).await?;
            if reply.body.len() != self.body.len() {
                return Err("a reply of another length".into());
            }
            latencies.push(began.elapsed());
        }
        Ok(latencies)
    }
}

impl Arguments {
    fn calls_to_warm_up(&self) -> usize {
        self.concurrency.max(200)
    }
}

fn report_calls(peer: &str, arguments: &Arguments, window: Window, mut latencies: Vec<Duration>) -> Outcome<()> {
    let report = window.close()?;
    latencies.sort_unstable();
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
    println!(
        "{}",
        json!({
            "peer": peer, "role": "rpc", "calls": arguments.calls, "concurrency": arguments.concurrency,
            "body": arguments.body, "secs": report.secs, "calls_per_s": arguments.calls as f64 / report.secs,
            "p50_us": quantile(0.5), "p99_us": quantile(0.99), "max_us": quantile(1.0),
            "cpu_user_s": report.user, "cpu_sys_s": report.system,
        })
    );
    Ok(())
}

async fn publish(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    let queue = ShortString::try_from(arguments.queue.as_str())?;
    let body = Bytes::from(vec![b'x'; arguments.body]);
    let window = Window::open()?;
    for _ in 0..arguments.count {
        channel.publish("", &queue, body.clone()).await?;
    }
    declare(&channel, &arguments.queue, true).await?;
    report_flow("publish", &arguments, window)
}

async fn consume(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel.qos(arguments.prefetch).await?;
    let window = Window::open()?;
    if arguments.ack == Ack::Manual {
        let mut messages = channel.consume(arguments.queue.as_str()).await?;
        for _ in 0..arguments.count {
            messages.next().await.ok_or("the consumer ended")??.ack().await?;
        }
    } else {
        let consume = BasicConsume { queue: arguments.queue.as_str().try_into()?, ..Default::default() };
        let mut messages = channel.consume_no_ack(consume).await?;
        for _ in 0..arguments.count {
            messages.next().await.ok_or("the consumer ended")??;
        }
    }
    report_flow("consume", &arguments, window)
}

fn report_flow(role: &str, arguments: &Arguments, window: Window) -> Outcome<()> {
    let report = window.close()?;
    let ack = if arguments.ack == Ack::Manual { "manual" } else { "auto" };
    println!(
        "{}",
        json!({
            "peer": "amqp-rpc", "role": role, "count": arguments.count, "body": arguments.body, "ack": ack,
            "secs": report.secs, "msgs_per_s": arguments.count as f64 / report.secs,
            "cpu_user_s": report.user, "cpu_sys_s": report.system,
        })
    );
    Ok(())
}

/// A stretch of wall time, and the processor time used in it.
struct Window {
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
    fn open() -> Outcome<Self> {
        let (user, system) = processor_time()?;
        Ok(Self { started: Instant::now(), user, system })
    }

    fn close(self) -> Outcome<Report> {
        let secs = self.started.elapsed().as_secs_f64();
        let (user, system) = processor_time()?;
        Ok(Report { secs, user: user - self.user, system: system - self.system })
    }
}

fn processor_time() -> Outcome<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}
