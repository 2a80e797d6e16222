//! Tutorial six, the client: it asks for one Fibonacci number.

use std::{pin::pin, process::ExitCode, time::Duration};

use amqp_rpc::{
    cli::{self, Failure, Flavor, Status, fib, run, say, sentence, stop_signal},
    client::Connection,
    codec::ShortString,
    rpc::{CallOptions, QueueType, RpcClient, queue},
};
use clap::Parser;

/// Asks an RPC server for a Fibonacci number, as in RabbitMQ's tutorial six.
///
/// If there is no broker, no queue, or nobody consumes from the queue, it says so at once. Otherwise it waits for the
/// reply, but never longer than --timeout.
///
/// Exit status: 0 a reply came; 130 Ctrl-C; 2 a bad argument; 3 no broker; 4 no server; 5 no reply in time; 6 the server
/// answered with an error; 7 the connection was lost; 8 the login was refused; 1 anything else.
///
/// Example: cargo run --bin client 30
#[derive(Parser)]
#[command(version)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls)] // printed by --help, not by rustdoc
struct Arguments {
    /// Which Fibonacci number: 0 to 93. 30 takes a moment, and each one more 1.6 times as long as the one before.
    #[arg(allow_negative_numbers = true, value_parser = fib::argument)]
    n: u8,
    /// The broker: amqp://user:password@host:port/vhost (with %2f for the virtual host "/").
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    url: Option<String>,
    /// The queue that the servers take requests from.
    #[arg(long, default_value = "rpc_queue")]
    queue: ShortString,
    /// Seconds to wait for the reply [default: 5, or 60 with --wait].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Queue the request even if no server is there yet.
    #[arg(long)]
    wait: bool,
}

fn main() -> ExitCode {
    run(interruptible(Arguments::parse()), Flavor::CurrentThread)
}

/// Ctrl-C drops the call; the connection then closes in order, unless a second one comes first.
async fn interruptible(arguments: Arguments) -> Result<(), Failure> {
    let options = cli::options(arguments.url.as_deref())?.unwrap_or_default();
    let mut stopped = pin!(stop_signal());
    let connection = tokio::select! {
        connection = Connection::connect(options.clone()) => connection,
        () = &mut stopped => return Err(interrupted()),
    };
    let connection = connection.map_err(|error| sentence::of_connect(&error, &options))?;
    let work = async {
        let result = call(&connection, arguments).await;
        let closed = connection.clone().close().await;
        result.and(closed.map_err(|error| sentence::of_operation(&error)))
    };
    tokio::select! {
        result = work => return result,
        () = stopped => {}
    }
    let _ = connection.close().await; // it was interrupted, whatever comes of this
    Err(interrupted())
}

fn interrupted() -> Failure {
    Failure::new(Status::Interrupted, "")
}

async fn call(connection: &Connection, arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        n,
        queue: name,
        wait,
        timeout,
        ..
    } = arguments;
    let limit = Duration::from_secs(timeout.unwrap_or(if wait { 60 } else { 5 }));
    let failed = |error| sentence::of_operation(&error);
    if wait {
        let channel = connection.open_channel().await.map_err(failed)?;
        queue::declare(connection, &channel, &name, QueueType::Auto)
            .await
            .map_err(failed)?;
    } else {
        match queue::look_up(connection, &name).await.map_err(failed)? {
            None => return Err(sentence::no_queue(&name.to_string())),
            Some(found) if found.consumer_count == 0 => {
                return Err(sentence::no_consumer(
                    &name.to_string(),
                    found.message_count,
                ));
            }
            Some(_) => {}
        }
    }
    let rpc = RpcClient::new(connection).await.map_err(failed)?;
    say(format_args!(" [x] Requesting fib({n})"));
    let reply = rpc
        .call_with(CallOptions::within(limit), name, n.to_string())
        .await
        .map_err(|error| sentence::of_call(&error))?;
    say(format_args!(
        " [.] Got {}",
        String::from_utf8_lossy(&reply.body)
    ));
    Ok(())
}
