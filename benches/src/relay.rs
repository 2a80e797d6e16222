//! The floor under every broker: the octets of a call and of its reply, over loopback from a client through one process
//! to another and back, with no AMQP in between.
//!
//! It answers to the command line of `peer`. The client starts the two other processes, which end with it.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use amqp_rpc_benches::work::{Arguments, Outcome, Role, Window, report_calls};
use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

/// What a started process is to do, in its environment: `echo REQUEST REPLY`, or `relay PORT`.
const PART: &str = "RELAY_PART";

fn main() -> Outcome<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if let Ok(part) = std::env::var(PART) {
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]); // ends when the client does
            std::process::exit(0);
        });
        let words: Vec<&str> = part.split(' ').collect();
        return match words[..] {
            ["echo", request, reply] => runtime.block_on(echo(request.parse()?, reply.parse()?)),
            ["relay", port] => runtime.block_on(relay(port.parse()?)),
            _ => Err("an unknown part".into()),
        };
    }
    let arguments = Arguments::parse();
    match arguments.role {
        Role::Client => runtime.block_on(call(arguments)),
        _ => Err("only calls go through a relay".into()),
    }
}

/// Octets of a request as it is published, and of a reply as it is delivered.
fn sizes(arguments: &Arguments) -> (usize, usize) {
    const FRAME: usize = 8;
    const HEADER: usize = FRAME + 2 + 2 + 8 + 2;
    const REPLY_TO: usize = 1 + 30; // amq.gen-...
    const ID: usize = 1 + 5;
    const CONSUMER_TAG: usize = 1 + 31; // amq.ctag-...
    let body = FRAME + arguments.body;
    let publish = FRAME + 4 + 2 + 1 + (1 + arguments.queue.len()) + 1;
    let deliver = FRAME + 4 + CONSUMER_TAG + 8 + 1 + 1 + REPLY_TO;
    (
        publish + HEADER + REPLY_TO + ID + body,
        deliver + HEADER + ID + body,
    )
}

/// The address is told to whoever started this process.
async fn accept() -> Outcome<TcpStream> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect(port: u16) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Requests that arrive together are answered together.
async fn echo(request: usize, reply: usize) -> Outcome<()> {
    let mut stream = accept().await?;
    let (mut inbound, mut octets, mut outbound) = (vec![0; 1 << 16], 0, Vec::new());
    loop {
        octets += match stream.read(&mut inbound).await? {
            0 => return Ok(()),
            some => some,
        };
        outbound.resize(octets / request * reply, 1);
        octets %= request;
        stream.write_all(&outbound).await?;
    }
}

async fn relay(port: u16) -> Outcome<()> {
    let (mut client, mut server) = (accept().await?, connect(port).await?);
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn start(part: &str) -> Outcome<(Child, u16)> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    Ok((child, port.trim().parse()?))
}

async fn call(arguments: Arguments) -> Outcome<()> {
    let (request, reply) = sizes(&arguments);
    let (mut echo, port) = start(&format!("echo {request} {reply}"))?;
    let (mut relay, port) = start(&format!("relay {port}"))?;
    let mut stream = connect(port).await?;
    round_trips(
        &mut stream,
        arguments.calls_to_warm_up(),
        arguments.concurrency,
        request,
        reply,
    )
    .await?;
    let window = Window::open()?;
    let latencies = round_trips(
        &mut stream,
        arguments.calls,
        arguments.concurrency,
        request,
        reply,
    )
    .await?;
    report_calls("tcp-relay", &arguments, window, latencies)?;
    for child in [&mut echo, &mut relay] {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(())
}

/// With so many requests on their way; those that may go at once go in one write.
async fn round_trips(
    stream: &mut TcpStream,
    calls: usize,
    concurrency: usize,
    request: usize,
    reply: usize,
) -> Outcome<Vec<Duration>> {
    let outbound = vec![2; concurrency * request];
    let (mut inbound, mut octets) = (vec![0; 1 << 16], 0);
    let (mut started, mut latencies) = (VecDeque::new(), Vec::with_capacity(calls));
    let (mut room, mut sent) = (concurrency, 0);
    while latencies.len() < calls {
        let now = room.min(calls - sent);
        if now > 0 {
            started.extend(std::iter::repeat_n(Instant::now(), now));
            stream.write_all(&outbound[..now * request]).await?;
            sent += now;
        }
        octets += stream.read(&mut inbound).await?;
        room = octets / reply;
        octets %= reply;
        latencies.extend(started.drain(..room).map(|began| began.elapsed()));
    }
    Ok(latencies)
}
