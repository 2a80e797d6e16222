//! # The client: tutorial six, it asks for one Fibonacci number or for very many
//!
//! ```text
//! client 30                                 one call: its result, or a sentence and the exit status of its outcome
//! client 10 --count 100000 --concurrency 64 many calls, and what became of each
//! client ping                               no call: is there a broker, and how many consume from the queue?
//! ```
//!
//! Read next: `broker`. Explained in `docs/11-rpc.md`.

use std::{pin::pin, process::ExitCode, time::Duration};

use amqp_rpc::{
    cli::{
        self, Failure, Flavor, Logged, Status, fib,
        load::{self, Load, Summary},
        one_of, run, say, sentence, stop_signal,
    },
    client::Connection,
    codec::ShortString,
    rpc::{CallOptions, QueueType, ReplyMode, RpcClient, RpcClientOptions, queue},
};
use clap::{Parser, Subcommand};
use tokio::time::{Instant, timeout};

/// How long calls in flight have after Ctrl-C. They are the user's to give up.
const FAREWELL: Duration = Duration::ZERO;

/// How long the broker has to answer a close, which it does not read while it is blocked (BLOCK-2). Nobody should wait
/// for that, who has waited for his timeout already.
const GOODBYE: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
Exit status (of many calls, the first that failed decides):
    0  a reply came
    1  anything else
    2  a bad argument
    3  no broker
    4  no server: no queue, or nobody consumes from it
    5  no reply in time
    6  the server answered with an error
    7  the connection was lost
    8  the login was refused
    9  the channel was closed
   10  the reply cannot be understood
   11  the broker refused the request, since the queue is full
   12  the request cannot be sent
  130  Ctrl-C

Examples:
  cargo run --bin client 30
  cargo run --release --bin client 10 --count 100000 --concurrency 64
  cargo run --bin client ping";

/// Asks an RPC server for a Fibonacci number, as in RabbitMQ's tutorial six.
///
/// If there is no broker, no queue, or nobody consumes from the queue, it says so at once. Otherwise it waits for the
/// reply, but never longer than --timeout. When the connection is lost it gets another.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true, after_long_help = AFTER_HELP)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls)] // printed by --help, not by rustdoc
struct Arguments {
    /// Which Fibonacci number: 0 to 93. 30 takes a moment, and each one more 1.6 times as long as the one before.
    #[arg(required = true, allow_negative_numbers = true, value_parser = fib::argument)]
    n: Option<u8>,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
    /// Seconds to wait for each reply [default: 5, or 60 with --wait].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Queue the request even if no server is there yet.
    #[arg(long)]
    wait: bool,
    /// How many calls to make; more than one ends with a summary.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// How many calls to have in flight at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    concurrency: u64,
    /// Where replies come to: `direct` reply-to, or an `exclusive` queue, as in tutorial six.
    #[arg(long, value_name = "MODE", default_value = "direct", value_parser = one_of::<ReplyMode>(["direct", "exclusive"]))]
    reply_mode: ReplyMode,
    /// Send a call again if the connection is lost under it: the work may then be done twice.
    #[arg(long)]
    idempotent: bool,
}

#[derive(clap::Args)]
struct Place {
    /// The broker: amqp://user:password@host:port/vhost (with %2f for the virtual host "/"). Several hosts are separated
    /// by commas, several URLs by spaces.
    #[arg(long, env = "AMQP_URL", hide_env_values = true, global = true)]
    url: Option<String>,
    /// The queue that the servers take requests from.
    #[arg(long, default_value = "rpc_queue", global = true)]
    queue: ShortString,
}

#[derive(Subcommand)]
enum Command {
    /// Asks the broker whether it is there, and how many servers there are.
    Ping,
}

fn main() -> ExitCode {
    run(
        interruptible(Arguments::parse()),
        Flavor::CurrentThread,
        Logged::Nothing,
    )
}

/// Ctrl-C drops the calls; the connection then closes in order, unless a second one comes first.
async fn interruptible(arguments: Arguments) -> Result<(), Failure> {
    let endpoints = cli::endpoints(arguments.place.url.as_deref())?.unwrap_or_default();
    let mut stopped = pin!(stop_signal());
    let options = RpcClientOptions {
        reply_mode: arguments.reply_mode,
        ..Default::default()
    };
    let rpc = tokio::select! {
        rpc = RpcClient::connect_with(endpoints.clone(), options) => rpc,
        () = &mut stopped => return Err(Failure::new(Status::Interrupted, "Interrupted.")),
    };
    let rpc = rpc.map_err(|error| sentence::of_endpoints(&error, &endpoints))?;
    let mut summary = Summary::default();
    let result = tokio::select! {
        result = work(&rpc, &arguments, &mut summary) => result,
        () = stopped => Err(interrupted()),
    };
    let closed = timeout(GOODBYE, rpc.close(FAREWELL)).await;
    if arguments.count > 1 && arguments.n.is_some() {
        say(&summary);
    }
    result?;
    // What is lost now has already done its work.
    let _ = closed;
    match summary.failure() {
        Some(first) => {
            let sentence = format!("The first that failed: {}", first.sentence);
            Err(Failure::new(first.status, sentence))
        }
        None => Ok(()),
    }
}

fn interrupted() -> Failure {
    let text = "Interrupted. A server that has the request hears nothing of that, and works until its deadline.";
    Failure::new(Status::Interrupted, text)
}

async fn work(
    rpc: &RpcClient,
    arguments: &Arguments,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let name = &arguments.place.queue;
    let Some(connection) = rpc.connection() else {
        return Err(Failure::new(
            Status::Lost,
            "The connection was lost at once.",
        ));
    };
    let Some(n) = arguments.n else {
        return ping(&connection, name).await;
    };
    let failed = |error| sentence::of_operation(&error);
    if arguments.wait {
        let channel = connection.open_channel().await.map_err(failed)?;
        let declared = queue::declare(&connection, &channel, name, QueueType::Auto, None).await;
        declared.map_err(failed)?;
    } else {
        match queue::look_up(&connection, name).await.map_err(failed)? {
            None => return Err(sentence::no_queue(&name.to_string())),
            Some(found) if found.consumer_count == 0 => {
                let waiting = found.message_count;
                return Err(sentence::no_consumer(&name.to_string(), waiting));
            }
            Some(_) => {}
        }
    }
    let seconds = arguments
        .timeout
        .unwrap_or(if arguments.wait { 60 } else { 5 });
    let options = CallOptions {
        timeout: Some(Duration::from_secs(seconds)),
        idempotent: arguments.idempotent,
    };
    if arguments.count > 1 {
        let (count, concurrency) = (arguments.count, arguments.concurrency);
        let load = Load {
            queue: name.clone(),
            n,
            options,
            count,
            concurrency,
        };
        load::run(rpc, &load, summary).await;
        return Ok(());
    }
    say(format_args!(" [x] Requesting fib({n})"));
    let reply = rpc.call_with(options, name, n.to_string()).await;
    let number = reply.and_then(|reply| fib::result(&reply.body));
    let number = number.map_err(|error| sentence::of_call(&error))?;
    say(format_args!(" [.] Got {number}"));
    Ok(())
}

/// An open connection is not yet a broker that answers, so it is asked something.
async fn ping(connection: &Connection, name: &ShortString) -> Result<(), Failure> {
    let asked = Instant::now();
    let found = queue::look_up(connection, name).await;
    let found = found.map_err(|error| sentence::of_operation(&error))?;
    let took = asked.elapsed().as_secs_f64() * 1000.0;
    say(format_args!("The broker answers in {took:.1} ms."));
    let Some(found) = found else {
        return Err(sentence::no_queue(&name.to_string()));
    };
    let (servers, waiting) = (found.consumer_count, found.message_count);
    if servers == 0 {
        return Err(sentence::no_consumer(&name.to_string(), waiting));
    }
    let plural = |count: u32, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    say(format_args!(
        "Queue '{name}': {}, {}.",
        plural(servers, "server", "servers"),
        plural(waiting, "request waits", "requests wait"),
    ));
    Ok(())
}
