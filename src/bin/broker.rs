//! # The broker: the built-in one alone, for anybody's clients
//!
//! What a test starts with [`Broker::start`], here at an address of your choice and until Ctrl-C. It keeps all in
//! memory.
//!
//! Read next: [`home`](amqp_rpc::cli::home). Explained in `docs/broker.md`.

use std::process::ExitCode;

use amqp_rpc::{
    broker::{Broker, BrokerOptions},
    cli::{Failure, Flavor, Logged, run, say, sentence, stop_signal},
};
use clap::Parser;

/// A small AMQP 0-9-1 broker, in memory, for learning and testing.
///
/// Any AMQP 0-9-1 client can use it: user guest, password guest, virtual host /. It keeps everything in memory and
/// forgets it when it ends; docs/broker.md says what it does like RabbitMQ, and what it leaves out. For durable or
/// clustered work use RabbitMQ: the same clients work there unchanged.
///
/// After Ctrl-C it tells every client that it shuts down (reply code 320) and ends; a second Ctrl-C ends it at once.
///
/// Exit status: 0 stopped by Ctrl-C; 2 a bad argument; 3 it cannot listen at the address; 1 anything else.
///
/// Example: cargo run --bin broker -- --listen 127.0.0.1:5673
#[derive(Parser)]
#[command(version)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls)] // printed by --help, not by rustdoc
struct Arguments {
    /// The address and port to listen at. guest may log in from this machine only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5672")]
    listen: String,
}

fn main() -> ExitCode {
    run(
        serve(Arguments::parse()),
        Flavor::MultiThread,
        Logged::Warnings,
    )
}

async fn serve(arguments: Arguments) -> Result<(), Failure> {
    let broker = Broker::bind(&arguments.listen, BrokerOptions::default()).await;
    let broker = broker.map_err(|error| sentence::of_bind(&error, &arguments.listen))?;
    let stop = stop_signal();
    say(format_args!(
        " [*] Broker at {} (in memory). To exit press CTRL+C",
        broker.uri()
    ));
    stop.await;
    broker.stop().await;
    Ok(())
}
