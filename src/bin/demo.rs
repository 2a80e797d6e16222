//! # The demo: the whole conversation on one page
//!
//! A broker, a server and a client in one process, and every frame they exchange. They talk over real sockets; a tap
//! between each program and its socket prints what crosses it. Names, ids and the clock are fixed, so that every run is
//! the same, and `docs/conversation.md` is what it prints.
//!
//! Read next: `server`.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use amqp_rpc::{
    broker::{Broker, BrokerOptions, NameSource, VhostOptions},
    cli::{
        Failure, Flavor, Logged, Status,
        conversation::{Script, Speaker},
        fib,
        flip::{Flip, SILENCE},
        illustrated, one_of, run, say, sentence,
        tap::tap,
    },
    client::{ConnectOptions, Connection, Error},
    rpc::{ReplyMode, RpcClient, RpcClientOptions, RpcServer, RpcServerOptions, deadline::Clock},
    short,
};
use anstyle::{AnsiColor, Style};
use clap::Parser;
use tokio::{net::TcpStream, sync::oneshot};

/// Shows one remote call, frame by frame: who says what to whom.
///
/// In one process it starts the built-in broker, an RPC server and an RPC client, asks for fib(30), and prints what
/// crosses the two connections. It needs nothing installed and ends by itself.
///
/// Next: `cargo run -- --hex` also shows the octets, each with its label. `cargo run -- --flip 520` inverts one octet of
/// what the client sends, and shows what the broker makes of it; the exit status is then that of a client to which this
/// happens. `cargo run --bin server` and `cargo run --bin
/// client 30` are the same call between two programs. docs/README.md says where to read on.
#[derive(Parser)]
#[command(version)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls)] // printed by --help, not by rustdoc
struct Arguments {
    /// Which Fibonacci number to ask for: 0 to 93.
    #[arg(default_value_t = 30, value_parser = fib::argument)]
    n: u8,
    /// Show the octets of every frame, each with its label.
    #[arg(long)]
    hex: bool,
    /// Invert all bits of this octet, counted from 0, of what the client sends to the broker, and show what comes of it.
    #[arg(long, value_name = "OCTET")]
    flip: Option<u64>,
    /// Write the conversation into this file as well, as a page for a browser in which every octet is explained.
    #[arg(long, value_name = "FILE", conflicts_with = "flip")]
    html: Option<PathBuf>,
    /// Where replies come to: an `exclusive` queue, as in tutorial six, or `direct` reply-to, which needs none.
    #[arg(long, value_name = "MODE", default_value = "exclusive", value_parser = one_of::<ReplyMode>(["exclusive", "direct"]))]
    reply_mode: ReplyMode,
}

/// The time of day that both sides believe in, so that every run is the same.
const NOW: Clock = || Duration::from_hours(24 * 365 * 57);

fn main() -> ExitCode {
    run(
        demo(Arguments::parse()),
        Flavor::CurrentThread,
        Logged::Nothing,
    )
}

async fn demo(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        n,
        hex,
        flip,
        html,
        reply_mode,
    } = arguments;
    let script = Script::new(hex);
    let flip = flip.map(Flip::of);
    let speakers = Speakers {
        server: Speaker::new("server", AnsiColor::Yellow, &script, None),
        client: Speaker::new("client", AnsiColor::Cyan, &script, flip),
    };
    let conversation = conversation(n, reply_mode, &script, &speakers);
    let bold = Style::new().bold();
    let (sentence, end) = match flip {
        None => (conversation.await?, Ok(())),
        Some(flip) => {
            let ended = tokio::select! {
                ended = conversation => Some(ended),
                () = speakers.client.silence(SILENCE) => None,
            };
            flip.what_came_of_it(&speakers.client, ended)
        }
    };
    say(format_args!("\n{bold}{sentence}{bold:#}"));
    if let Some(file) = html {
        let page = illustrated::page(&script.scenes(), &sentence);
        std::fs::write(&file, page).map_err(|error| {
            let file = file.display();
            Failure::new(Status::Other, format!("Cannot write {file}: {error}."))
        })?;
        say(format_args!("The page is in {}.", file.display()));
    }
    end
}

struct Speakers {
    server: Arc<Speaker>,
    client: Arc<Speaker>,
}

/// The call and all that it takes; returns what it came to.
async fn conversation(
    n: u8,
    reply_mode: ReplyMode,
    script: &Script,
    speakers: &Speakers,
) -> Result<String, Failure> {
    let other = |error: std::io::Error| {
        Failure::new(Status::Other, format!("The demo cannot start: {error}."))
    };
    let failed = |error: Error| sentence::of_operation(&error);
    // Names that are the same on every run, so that the page in docs/ can be compared with this output.
    let vhost = VhostOptions {
        names: NameSource::Numbered(0),
        ..Default::default()
    };
    let broker = Broker::bind(
        ("127.0.0.1", 0),
        BrokerOptions {
            vhost,
            ..Default::default()
        },
    )
    .await
    .map_err(other)?;

    script.scene(
        "The server connects",
        "a protocol header, then the handshake on channel 0",
    );
    let server_connection = connect(&broker, &speakers.server).await?;
    script.scene(
        "The server prepares",
        "is the queue there? declare it; one request at a time; consume",
    );
    let options = RpcServerOptions {
        clock: NOW,
        ..Default::default()
    };
    let server = RpcServer::with_options(&server_connection, "rpc_queue", options)
        .await
        .map_err(failed)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(fib::serve, async { _ = stopped.await }));

    script.scene(
        "The client connects",
        "the same handshake, on a connection of its own",
    );
    let client_connection = connect(&broker, &speakers.client).await?;
    let address = match reply_mode {
        ReplyMode::ExclusiveQueue => {
            "a queue for replies, named by the broker and for this connection alone"
        }
        ReplyMode::DirectReplyTo => "no queue for replies: they come to this very channel",
    };
    script.scene("The client prepares", address);
    let options = RpcClientOptions {
        reply_mode,
        correlation_id: || short!("00000000-0000-4000-8000-000000000001"),
        clock: NOW,
        ..Default::default()
    };
    let rpc = RpcClient::with_options(&client_connection, options)
        .await
        .map_err(failed)?;

    script.scene(
        "The call",
        "a request and a reply, each a method, a content header and a body; then the ack",
    );
    let reply = rpc
        .call("rpc_queue", n.to_string())
        .await
        .map_err(|error| sentence::of_call(&error))?;

    script.scene(
        "Goodbye",
        "the client first, then the server: consumer, channel, connection",
    );
    client_connection.close().await.map_err(failed)?;
    drop(stop);
    serving
        .await
        .map_err(|error| Failure::new(Status::Other, error.to_string()))?
        .map_err(failed)?;
    server_connection.close().await.map_err(failed)?;
    broker.stop().await;

    let reply = String::from_utf8_lossy(&reply.body);
    Ok(format!("fib({n}) = {reply}"))
}

async fn connect(broker: &Broker, speaker: &Arc<Speaker>) -> Result<Connection, Failure> {
    let options = ConnectOptions::default();
    let stream = TcpStream::connect(broker.address()).await;
    let stream = stream.map_err(|error| {
        Failure::new(
            Status::NoBroker,
            format!("The demo cannot connect: {error}."),
        )
    })?;
    let (reader, writer) = stream.into_split();
    let (reader, writer) = tap(reader, writer, speaker);
    let connection = Connection::over(reader, writer, options.clone()).await;
    connection.map_err(|error| sentence::of_connect(&error, &options))
}
