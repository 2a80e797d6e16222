//! # The server: tutorial six, it answers `30` with `832040`
//!
//! ```text
//! --url, AMQP_URL ─▶ that broker │ no URL ─▶ localhost:5672, or else the broker in this process
//! ```
//!
//! Everything else is [`RpcServer`]: what is here is what to call it with, and what to say meanwhile.
//!
//! Read next: `client`. Explained in `docs/11-rpc.md`.

use std::{process::ExitCode, time::Duration};

use amqp_rpc::{
    cli::{
        self, Failure, Flavor, Logged, fib,
        home::{Home, find_or_host},
        one_of, run, say, sentence, stop_signal,
    },
    client::{ConnectOptions, Endpoints, Error},
    codec::ShortString,
    rpc::{ConnectionState, QueueType, RpcServer, RpcServerOptions, ServerMonitor},
};
use clap::Parser;
use tokio::sync::watch;

/// An RPC server that computes Fibonacci numbers, as in RabbitMQ's tutorial six.
///
/// It takes requests from a queue one at a time, so several servers share the work fairly; it replies before it
/// acknowledges, so a request survives the death of its server (and may then be executed twice). When the connection or
/// the queue is lost, it says so, and tries until it has another.
///
/// Without --url it connects to amqp://guest:guest@localhost:5672/%2f, and if nothing listens there it hosts the
/// built-in broker in its own process: nothing needs to be installed.
///
/// When that server ends, the broker ends with it, and every request that is left: the other servers wait for a broker,
/// and none takes its place.
///
/// After Ctrl-C it takes no new request, finishes what it has begun and ends; a second Ctrl-C ends it at once.
///
/// Exit status: 0 stopped by Ctrl-C; 2 a bad argument; 3 no broker; 7 the connection was lost as it stopped; 8 the login
/// was refused; 130 a second Ctrl-C; 1 anything else.
///
/// Example: cargo run --bin server -- --url amqp://user:password@rabbit.example:5672/%2f --prefetch 4
#[derive(Parser)]
#[command(version)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls)] // printed by --help, not by rustdoc
struct Arguments {
    /// The broker: amqp://user:password@host:port/vhost (with %2f for the virtual host "/"). Several hosts are separated
    /// by commas, several URLs by spaces.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    url: Option<String>,
    /// The queue that requests come to.
    #[arg(long, default_value = "rpc_queue")]
    queue: ShortString,
    /// How to declare the queue: `auto` takes it as it stands, and makes a `quorum` queue if there is none; `quorum` is
    /// durable, as in today's tutorials; `classic` is transient, as in the old ones.
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = one_of::<QueueType>(["auto", "classic", "quorum"]))]
    queue_type: QueueType,
    /// How many requests to hold at once; 1 is fair dispatch.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: u16,
    /// How many requests to work on at once [default: as many as --prefetch].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Seconds that the work on a request may take, however long its caller would wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    work_limit: u64,
    /// Seconds that a stop may take; what is not finished then comes again, to another server.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// How often a request may come back unanswered before it is given up.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    max_redeliveries: u64,
}

fn main() -> ExitCode {
    run(
        serve(Arguments::parse()),
        Flavor::MultiThread,
        Logged::Nothing,
    )
}

async fn serve(arguments: Arguments) -> Result<(), Failure> {
    let options = RpcServerOptions {
        queue_type: arguments.queue_type,
        prefetch: arguments.prefetch,
        concurrency: arguments.concurrency.map(Into::into),
        work_limit: Duration::from_secs(arguments.work_limit),
        drain_limit: Duration::from_secs(arguments.drain),
        max_redeliveries: arguments.max_redeliveries,
        ..Default::default()
    };
    let (endpoints, broker) = if let Some(endpoints) = cli::endpoints(arguments.url.as_deref())? {
        (endpoints, None)
    } else {
        let Home { address, broker } = find_or_host(&ConnectOptions::default()).await?;
        (address.into(), broker)
    };
    if let Some(broker) = &broker {
        let address = broker.address();
        say(format_args!(
            " [*] No broker found, so this process hosts one at {address} (in memory); for RabbitMQ use --url"
        ));
    }
    let server = RpcServer::connect_with(endpoints.clone(), arguments.queue, options).await;
    let server = server.map_err(|error| not_started(&error, &endpoints))?;
    tokio::spawn(tell(server.monitor().state()));
    let monitor = server.monitor();
    let stop = asked_to_stop(monitor.clone(), arguments.drain);
    say(" [x] Awaiting RPC requests");
    let ended = server.serve(fib::serve, stop).await;
    ended.map_err(|error| sentence::of_operation(&error))?;
    let left = monitor.stats().given_back;
    if left > 0 {
        let fate = match &broker {
            Some(_) => "They are lost, for this process was the broker.",
            None => "They come again, to another server.",
        };
        eprintln!("Requests that were not finished: {left}. {fate}");
    }
    if let Some(broker) = broker {
        broker.stop().await;
    }
    Ok(())
}

fn not_started(error: &Error, endpoints: &Endpoints) -> Failure {
    match error {
        Error::Connect { .. } | Error::ConnectionClosed(_) => {
            sentence::of_endpoints(error, endpoints)
        }
        _ => sentence::of_operation(error),
    }
}

/// Says when there are no requests to be had, and when there are again.
async fn tell(mut state: watch::Receiver<ConnectionState>) {
    let mut lost = false;
    while state.changed().await.is_ok() {
        let now = state.borrow_and_update().clone();
        match now {
            ConnectionState::Reconnecting { cause, .. } if !lost => {
                lost = true;
                let why = sentence::of_operation(&cause).sentence;
                say(format_args!(" [*] {why} Trying until it works again."));
            }
            ConnectionState::Connected if lost => {
                lost = false;
                say(" [x] Awaiting RPC requests again");
            }
            _ => {}
        }
    }
}

/// Work in hand may take a while to finish, and nobody should wonder why nothing happens.
fn asked_to_stop(monitor: ServerMonitor, seconds: u64) -> impl Future<Output = ()> {
    let stopped = stop_signal();
    async move {
        stopped.await;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let running = monitor.stats().running;
            eprintln!(
                "Still at work on {running}, {seconds} s at most; CTRL+C again ends at once."
            );
        });
    }
}
