//! What the built-in broker takes, and whether it takes more where there is more of everything.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin scale -- memory
//! cargo run --release --manifest-path benches/Cargo.toml --bin scale -- connections
//! cargo run --release --manifest-path benches/Cargo.toml --bin scale -- cost --plot docs/scale.svg
//! ```
//!
//! The broker is a process of its own, since what is measured is its process; so is what uses it. `cost` counts
//! instructions under callgrind: they do not depend on who else uses the machine.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use amqp_rpc::{
    broker::{Broker, BrokerOptions},
    client::{ConnectOptions, Connection, Message},
    codec::{Properties, QueueDeclare, ShortString},
    rpc::{
        CallOptions, QueueType, ReplyMode, Request, RpcClient, RpcClientOptions, RpcServer,
        RpcServerOptions,
    },
};
use amqp_rpc_benches::{
    plot::{Mark, Panel, Scale, Series, draw},
    work::Outcome,
};
use clap::{Parser, Subcommand};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

/// More than anybody waits for, and far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(30);

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Memory of the broker for each message that waits, beside its body and its properties.
    Memory {
        #[arg(long, default_value_t = 1_000_000)]
        messages: usize,
        /// The most octets there may be for each.
        #[arg(long, default_value_t = 250.0)]
        most: f64,
    },
    /// Memory and CPU of the broker with connections that do nothing, a channel on each.
    Connections {
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// For how long they do nothing.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// The most MiB there may be for all of them.
        #[arg(long, default_value_t = 500.0)]
        most: f64,
        /// The most of one core they may take, in percent.
        #[arg(long, default_value_t = 1.0)]
        most_cpu: f64,
    },
    /// Instructions of a call with more and more queues, connections and calls in flight.
    Cost {
        /// Calls that are counted at each place; at least as many as are in flight.
        #[arg(long, default_value_t = 3000)]
        calls: usize,
        /// How many times the least before it a cost may be.
        #[arg(long, default_value_t = 1.2)]
        most: f64,
        /// Where to draw it.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// A broker, until its standard input ends.
    #[command(hide = true)]
    Broker,
    /// Servers and clients, and calls among them.
    #[command(hide = true)]
    Load {
        uri: String,
        #[command(flatten)]
        load: Load,
    },
}

/// What `cost` turns up one by one.
#[derive(clap::Args, Clone, Copy)]
struct Load {
    #[arg(long)]
    queues: usize,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    calls: usize,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Memory { messages, most } => memory(messages, most),
        What::Connections {
            count,
            seconds,
            most,
            most_cpu,
        } => connections(count, seconds, most, most_cpu),
        What::Cost { calls, most, plot } => cost(calls, most, plot),
        What::Broker => run(broker()),
        What::Load { uri, load } => run(calls(uri, load)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for each process: whose turn it is then depends on nothing but who has something to do.
fn run(program: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(program)
}

async fn broker() -> Outcome<()> {
    let options = BrokerOptions {
        max_connections: 20_000,
        ..BrokerOptions::default()
    };
    let broker = Broker::bind("127.0.0.1:0", options).await?;
    println!("{}", broker.uri());
    spawn_blocking(|| io::read_to_string(io::stdin())).await??;
    Ok(())
}

/// This program once more, doing something else.
struct Other {
    child: Child,
}

impl Other {
    fn start(under: &[&str], arguments: &[&str]) -> Outcome<Self> {
        let this = std::env::current_exe()?;
        let (first, rest) = match under {
            [first, rest @ ..] => (
                PathBuf::from(first),
                [rest, &[this.to_str().ok_or("a path")?]].concat(),
            ),
            [] => (this, Vec::new()),
        };
        let child = Command::new(first)
            .args(rest)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if under.is_empty() {
                Stdio::inherit()
            } else {
                Stdio::piped()
            })
            .spawn()?;
        Ok(Self { child })
    }

    /// A broker and its address.
    fn broker(under: &[&str]) -> Outcome<(Self, String)> {
        let mut broker = Self::start(under, &["broker"])?;
        let stdout = broker.child.stdout.take().ok_or("piped")?;
        let mut uri = String::new();
        BufReader::new(stdout).read_line(&mut uri)?;
        Ok((broker, uri.trim().to_owned()))
    }

    /// Octets resident now.
    fn resident(&self) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("VmRSS")?;
        Ok(line.trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
    }

    /// Seconds of CPU so far, of its one thread.
    fn cpu(&self) -> Outcome<f64> {
        let schedule = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        Ok(schedule
            .split(' ')
            .next()
            .ok_or("schedstat")?
            .parse::<f64>()?
            / 1e9)
    }

    /// Ends it, or waits until it ends, and returns what callgrind counted.
    fn instructions(mut self) -> Outcome<f64> {
        drop(self.child.stdin.take());
        let stderr = self.child.stderr.take().ok_or("piped")?;
        let lines: Vec<_> = BufReader::new(stderr).lines().collect::<Result<_, _>>()?;
        let status = self.child.wait()?;
        let counted = lines
            .iter()
            .find_map(|line| line.split_once("Collected : "));
        match counted {
            Some((_, counted)) if status.success() => Ok(counted.trim().parse()?),
            _ => Err(lines.join("\n").into()),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn memory(messages: usize, most: f64) -> Outcome<()> {
    let request = Properties {
        correlation_id: Some(ShortString::try_from("x".repeat(36))?),
        reply_to: Some(ShortString::try_from("x".repeat(30))?),
        ..Properties::default()
    };
    println!("| a message of | its own octets | octets of memory beside them |");
    println!("|---|---:|---:|");
    let mut too_much = false;
    for (what, properties, body) in [
        ("a body of 16 octets", Properties::default(), 16),
        (
            "the same, with a correlation id and a reply-to",
            request,
            16,
        ),
    ] {
        // The flags of the properties are always there.
        let own = properties.encoded_len() + body;
        let (broker, uri) = Other::broker(&[])?;
        let message = Message::new(properties, vec![b'x'; body]);
        let taken = run_for(async {
            let channel = Connection::open(&uri).await?.open_channel().await?;
            let queue = ShortString::try_from("q")?;
            let mut before = 0.0;
            for count in [1000, messages] {
                before = broker.resident()?;
                channel
                    .queue_declare(QueueDeclare {
                        queue: queue.clone(),
                        ..Default::default()
                    })
                    .await?;
                for _ in 0..count {
                    channel.publish("", &queue, message.clone()).await?;
                }
                let declare = QueueDeclare {
                    queue: queue.clone(),
                    passive: true,
                    ..Default::default()
                };
                channel.queue_declare(declare).await?;
            }
            Outcome::Ok(broker.resident()? - before)
        })?;
        let beside = taken / messages as f64 - own as f64;
        too_much |= beside > most;
        println!("| {what} | {own} | {beside:.0} |");
    }
    if too_much {
        Err(format!("more than {most} octets").into())
    } else {
        Ok(())
    }
}

fn run_for<T>(program: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(program)
}

fn connections(count: usize, seconds: u64, most: f64, most_cpu: f64) -> Outcome<()> {
    const AT_ONCE: usize = 50;
    const MIB: f64 = 1024.0 * 1024.0;
    let (broker, uri) = Other::broker(&[])?;
    let before = broker.resident()?;
    let (mib, cpu) = run_for(async {
        let options: ConnectOptions = uri.parse()?;
        let options = options.heartbeat(0);
        let mut opening = JoinSet::new();
        let mut open = Vec::with_capacity(count);
        for _ in 0..count {
            let options = options.clone();
            opening.spawn(async move {
                let connection = Connection::connect(options).await?;
                let channel = connection.open_channel().await?;
                Outcome::Ok((connection, channel))
            });
            if opening.len() == AT_ONCE {
                open.extend(opening.join_next().await.transpose()?.transpose()?);
            }
        }
        while let Some(connection) = opening.join_next().await {
            open.push(connection??);
        }
        sleep(Duration::from_secs(1)).await; // what opening them has left to do
        let cpu = broker.cpu()?;
        sleep(Duration::from_secs(seconds)).await;
        let cpu = (broker.cpu()? - cpu) / seconds as f64 * 100.0;
        if let Some(lost) = open
            .iter()
            .position(|(connection, _)| connection.cause().is_some())
        {
            return Err(format!("connection {lost} is lost").into());
        }
        Outcome::Ok((broker.resident()? / MIB, cpu))
    })?;
    let each = (mib * MIB - before) / 1024.0 / count as f64;
    println!(
        "| connections, a channel each | MiB of the broker | KiB for each | % of a core while idle |"
    );
    println!("|---:|---:|---:|---:|");
    println!("| {count} | {mib:.0} | {each:.1} | {cpu:.2} |");
    if mib > most || cpu > most_cpu {
        return Err(format!("more than {most} MiB or {most_cpu} % of a core").into());
    }
    Ok(())
}

/// Servers on one connection, clients on others, and calls that go round among clients and queues.
async fn calls(uri: String, load: Load) -> Outcome<()> {
    let Load {
        queues,
        connections,
        in_flight,
        calls,
    } = load;
    let serving = Connection::open(&uri).await?;
    let mut names = Vec::with_capacity(queues);
    for number in 0..queues {
        let name = ShortString::try_from(format!("q{number}"))?;
        let prefetch = in_flight.try_into().unwrap_or(u16::MAX).max(1);
        let options = RpcServerOptions {
            queue_type: QueueType::Classic,
            prefetch,
            ..Default::default()
        };
        let server = RpcServer::with_options(&serving, name.clone(), options).await?;
        let echo = |request: Request| async move { Ok(request.body) };
        tokio::spawn(server.serve(echo, std::future::pending()));
        names.push(name);
    }
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        let options = RpcClientOptions {
            reply_mode: ReplyMode::DirectReplyTo,
            ..RpcClientOptions::default()
        };
        clients.push(RpcClient::with_options(&Connection::open(&uri).await?, options).await?);
    }
    let round = Arc::new((clients, names, AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let round = round.clone();
        callers.spawn(async move {
            let (clients, names, next) = &*round;
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= calls {
                    return Outcome::Ok(());
                }
                let (client, name) = (
                    &clients[number % clients.len()],
                    &names[number % names.len()],
                );
                client
                    .call_with(CallOptions::within(PATIENCE), name, vec![b'x'; 16])
                    .await?;
            }
        });
    }
    while let Some(called) = callers.join_next().await {
        called??;
    }
    Ok(())
}

const CALLGRIND: [&str; 3] = [
    "valgrind",
    "--tool=callgrind",
    "--callgrind-out-file=/dev/null",
];

/// Instructions of the broker, and of clients and servers.
#[derive(Clone, Copy)]
struct Instructions {
    broker: f64,
    users: f64,
}

impl Instructions {
    fn of(load: Load) -> Outcome<Self> {
        let (broker, uri) = Other::broker(&CALLGRIND)?;
        let Load {
            queues,
            connections,
            in_flight,
            calls,
        } = load;
        let [queues, connections, in_flight, calls] =
            [queues, connections, in_flight, calls].map(|n| n.to_string());
        let arguments = [
            "--queues",
            &queues,
            "--connections",
            &connections,
            "--in-flight",
            &in_flight,
            "--calls",
            &calls,
        ];
        let users = Other::start(&CALLGRIND, &[&["load", &uri][..], &arguments].concat())?;
        let users = users.instructions()?;
        thread::sleep(Duration::from_secs(1)); // the broker hears of the end
        Ok(Self {
            broker: broker.instructions()?,
            users,
        })
    }

    /// What a call takes: all that is taken, without what is taken where no calls are made.
    fn of_a_call(load: Load) -> Outcome<Self> {
        let (all, none) = (Self::of(load)?, Self::of(Load { calls: 0, ..load })?);
        let calls = load.calls as f64;
        Ok(Self {
            broker: (all.broker - none.broker) / calls,
            users: (all.users - none.users) / calls,
        })
    }
}

fn cost(calls: usize, most: f64, plot: Option<PathBuf>) -> Outcome<()> {
    // Whoever shares a wake-up with others is cheaper, so one call is in flight where it is not their number that grows.
    let alone = Load {
        queues: 1,
        connections: 1,
        in_flight: 1,
        calls,
    };
    let courses = [
        (
            "queues",
            [1, 10, 100, 1000].map(|queues| (queues, Load { queues, ..alone })),
        ),
        (
            "connections",
            [1, 10, 100, 1000].map(|connections| {
                (
                    connections,
                    Load {
                        connections,
                        ..alone
                    },
                )
            }),
        ),
        (
            "calls in flight",
            [10, 100, 10_000, 100_000].map(|n| {
                (
                    n,
                    Load {
                        in_flight: n,
                        calls: calls.max(n),
                        ..alone
                    },
                )
            }),
        ),
    ];
    let (mut panels, mut grows) = (Vec::new(), Vec::new());
    for (what, course) in courses {
        println!(
            "| {what} | instructions of the broker for a call | of client and server |\n|---:|---:|---:|"
        );
        let mut counted: Vec<Instructions> = Vec::new();
        for (number, load) in course {
            let now = Instructions::of_a_call(load)?;
            println!("| {number} | {:.0} | {:.0} |", now.broker, now.users);
            for (whose, of) in SERIES {
                if counted.iter().any(|before| of(now) > most * of(*before)) {
                    grows.push(format!(
                        "{whose}: grows by more than {most} up to {number} {what}"
                    ));
                }
            }
            counted.push(now);
        }
        println!();
        panels.push(panel(
            what,
            course.map(|(number, _)| number.to_string()).into(),
            &counted,
        ));
    }
    if let Some(path) = plot {
        draw(
            &path,
            "Instructions of a call, as there is more of everything",
            &panels,
        )?;
    }
    if grows.is_empty() {
        Ok(())
    } else {
        Err(grows.join("\n").into())
    }
}

/// Whose instructions, and which they are.
type Whose = (&'static str, fn(Instructions) -> f64);

const SERIES: [Whose; 2] = [
    ("broker", |counted| counted.broker),
    ("client and server", |counted| counted.users),
];

fn panel(what: &str, places: Vec<String>, counted: &[Instructions]) -> Panel {
    let mark = |value: f64| {
        Some(Mark {
            least: value,
            median: value,
            greatest: value,
        })
    };
    let series = SERIES.map(|(name, of)| Series {
        name: name.to_owned(),
        marks: counted.iter().map(|counted| mark(of(*counted))).collect(),
    });
    Panel {
        title: format!("instructions per call, by {what}"),
        scale: Scale::Linear,
        places,
        noise: Vec::new(),
        series: series.into(),
        joined: true,
    }
}
