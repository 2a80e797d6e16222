//! # The programs: what the four of them share
//!
//! ```text
//! demo    one call, frame by frame, in one process        server   answers, and hosts the broker if there is none
//! client  asks once, or a million times                   broker   the broker alone
//!           all of them: --url, one sentence on standard error for a failure, and an exit status that says which
//! ```
//!
//! Nothing of it is needed by the library; it comes with the feature `cli`.
//!
//! Read next: `demo`, which is `src/bin/demo.rs`.

pub mod conversation;
pub mod fib;
pub mod flip;
pub mod home;
pub mod illustrated;
pub mod load;
pub mod sentence;
pub mod tap;

use std::{
    fmt::Display,
    future::Future,
    io::Write,
    process::{ExitCode, exit},
    str::FromStr,
};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing_subscriber::EnvFilter;

use crate::client::{Endpoints, Error};

/// Runs a program: a failure is one sentence on standard error and an exit status that says which.
///
/// What is worth a warning is on standard error too, in a program that nobody waits for; `RUST_LOG` chooses otherwise.
///
/// Blocking work that nobody waits for any more is left behind, so it cannot hold up the end.
pub fn run(
    program: impl Future<Output = Result<(), Failure>>,
    flavor: Flavor,
    logged: Logged,
) -> ExitCode {
    let logged = match logged {
        Logged::Nothing => "off",
        Logged::Warnings => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(logged));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(anstream::stderr) // no colour into a file
        .init();
    let runtime = match flavor {
        Flavor::CurrentThread => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        Flavor::MultiThread => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::new(Status::Other, format!("The runtime cannot start: {error}."))
                .report();
        }
    };
    let result = runtime.block_on(program);
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// One thread, where the order of what is printed matters, or as many as there are processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// One.
    CurrentThread,
    /// Several.
    MultiThread,
}

/// What is logged unless `RUST_LOG` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// Nothing: what goes wrong ends the program, and is said then.
    Nothing,
    /// What goes wrong and does not end it.
    Warnings,
}

/// The exit statuses, one for each way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Anything else.
    Other = 1,
    /// A bad argument.
    Usage = 2,
    /// Nothing that speaks AMQP 0-9-1 can be reached.
    NoBroker = 3,
    /// The queue does not exist, or nobody consumes from it.
    NoServer = 4,
    /// No reply in time.
    Timeout = 5,
    /// The server answered with an error.
    Remote = 6,
    /// The connection was lost on the way.
    Lost = 7,
    /// The broker refused the login or the virtual host.
    Refused = 8,
    /// The channel was closed, and the connection was not.
    ChannelClosed = 9,
    /// The reply is not what was expected.
    NotUnderstood = 10,
    /// The broker refused the request, since its queue is full.
    QueueFull = 11,
    /// The request cannot be sent as it is.
    NotSent = 12,
    /// Ctrl-C, as a shell has it: 128 + SIGINT.
    Interrupted = 130,
}

/// Why a program ends: what to say, and the exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to say.
    pub sentence: String,
    /// What the shell hears.
    pub status: Status,
}

impl Failure {
    /// A failure.
    pub fn new(status: Status, sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            status,
        }
    }

    fn report(self) -> ExitCode {
        if !self.sentence.is_empty() {
            eprintln!("{}", self.sentence);
        }
        ExitCode::from(self.status as u8)
    }
}

/// Prints a line, in colour only on a terminal.
///
/// Whoever reads it may have left, as `head` does after ten lines, and `println!` panics then. There is nobody left to
/// work for, so the process ends, as quietly as other programs do at SIGPIPE.
pub fn say(line: impl Display) {
    if writeln!(anstream::stdout(), "{line}").is_err() {
        exit(Status::Other as i32);
    }
}

/// The value of an argument that is one of these words, which `--help` lists.
pub fn one_of<T>(words: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}

/// Where to connect, as `--url` or `AMQP_URL` says. Read here and not by clap, which repeats a value that it cannot read:
/// this one may hold a password (SASL-12).
///
/// # Errors
/// What is wrong with it, with the exit status of a bad argument.
pub fn endpoints(url: Option<&str>) -> Result<Option<Endpoints>, Failure> {
    let read = url.map(str::parse).transpose();
    read.map_err(|error: Error| {
        Failure::new(Status::Usage, format!("The URL cannot be used: {error}."))
    })
}

/// Listens for Ctrl-C and SIGTERM from now on, and waits for the first. A second one ends the process at once.
///
/// # Cancel safety
/// Cancel safe; dropped before the first signal, it leaves signals as they were caught: unheard.
pub fn stop_signal() -> impl Future<Output = ()> + Send {
    let mut signals = Signals::listen();
    async move {
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            exit(Status::Interrupted as i32);
        });
    }
}

#[cfg(unix)]
struct Signals(Option<[tokio::signal::unix::Signal; 2]>);

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = signal(SignalKind::interrupt())
            .and_then(|first| Ok([first, signal(SignalKind::terminate())?]));
        Self(both.ok()) // without them the default action ends the process
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some([interrupt, terminate]) => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            None => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // without it the default action ends the process
        }
    }
}
