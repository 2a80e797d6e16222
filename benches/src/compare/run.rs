//! One run of one peer: its processes are started, and what they say is read.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use amqp_rpc_benches::{process::Running, work::Outcome};
use serde_json::Value;

/// A library's program, the broker that it works with, and the name under which both are listed.
#[derive(Clone)]
pub struct Peer {
    pub name: String,
    pub program: PathBuf,
    /// What stands after the role.
    pub options: Vec<String>,
    /// For our programs: `current` is one thread for all of it, `multi` what `#[tokio::main]` starts.
    pub runtime: &'static str,
    pub url: String,
    /// How many times as many calls, where they are so fast that a run would be over at once.
    pub haste: usize,
}

/// What is done in one row of a table.
#[derive(Clone, Copy, PartialEq)]
pub struct Place {
    pub work: Work,
    /// Octets.
    pub body: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Work {
    Calls { concurrency: usize },
    Publish,
    ConsumeAuto,
    ConsumeManual,
}

/// What came of it.
#[derive(Clone, Copy)]
pub struct Run {
    /// Calls or messages in a second.
    pub rate: f64,
    /// Processor time of the client, in microseconds for each.
    pub cpu: f64,
    /// Latencies of calls in microseconds: the median, and what one in a hundred exceeds.
    pub p50: f64,
    pub p99: f64,
}

/// Unacknowledged messages at most, where messages are consumed.
const PREFETCH: &str = "256";

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls { .. } => "RPC",
            Self::Publish => "publish",
            Self::ConsumeAuto => "consume without acks",
            Self::ConsumeManual => "consume, each acked",
        }
    }

    /// How many calls or messages, for about a second with RabbitMQ.
    fn amount(self) -> usize {
        match self {
            Self::Calls { concurrency: 1 } => 2_000,
            Self::Calls {
                concurrency: 2..=31,
            } => 8_000,
            Self::Calls { .. } => 15_000,
            Self::Publish | Self::ConsumeAuto | Self::ConsumeManual => 40_000,
        }
    }
}

/// An amount of octets, as people say it.
pub fn octets(amount: usize) -> String {
    match amount {
        1024.. => format!("{} KiB", amount / 1024),
        few => format!("{few} B"),
    }
}

impl Place {
    pub fn title(self) -> String {
        let (name, body) = (self.work.name(), octets(self.body));
        match self.work {
            Work::Calls { concurrency } => format!("{name}, {body}, {concurrency} at once"),
            _ => format!("{name}, {body}"),
        }
    }

    /// The same in two short lines.
    pub fn label(self) -> String {
        let title = self.title();
        let (what, how) = title.rsplit_once(", ").unwrap_or((&title, ""));
        format!("{}\n{how}", what.trim_start_matches("RPC, "))
    }
}

impl Peer {
    /// Does the work once. `server` answers the calls; `filler` publishes what is to be consumed.
    pub fn run(&self, place: Place, server: &Self, filler: &Self, scale: f64) -> Outcome<Run> {
        let queue = format!(
            "perf.{}.{}",
            self.name.replace(['/', ' '], "-"),
            std::process::id()
        );
        let amount = ((place.work.amount() * self.haste) as f64 * scale).ceil() as usize;
        let (amount, body) = (amount.to_string(), place.body.to_string());
        let flow = [
            "--count",
            &amount,
            "--body",
            &body,
            "--queue",
            &queue,
            "--prefetch",
            PREFETCH,
        ];
        let report = match place.work {
            Work::Calls { concurrency } => {
                let concurrency = concurrency.to_string();
                // The floor needs no server: its processes are its own.
                let server =
                    (self.name != FLOOR).then(|| server.serve(&self.url, &queue, &concurrency));
                let _server = server.transpose()?;
                let calls = ["--calls", &amount, "--body", &body, "--queue", &queue];
                self.report(
                    "client",
                    &[&calls[..], &["--concurrency", &concurrency]].concat(),
                )?
            }
            Work::Publish => {
                let report = self.report("publish", &flow)?;
                filler.at(&self.url).report("consume", &flow)?; // the queue goes with its consumer
                report
            }
            Work::ConsumeAuto | Work::ConsumeManual => {
                filler.at(&self.url).report("publish", &flow)?;
                let ack = if place.work == Work::ConsumeAuto {
                    "auto"
                } else {
                    "manual"
                };
                self.report("consume", &[&flow[..], &["--ack", ack]].concat())?
            }
        };
        let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
        let cpu = (number("cpu_user_s") + number("cpu_sys_s")) / amount.parse::<f64>()? * 1e6;
        let rate = if report["role"] == "rpc" {
            "calls_per_s"
        } else {
            "msgs_per_s"
        };
        Ok(Run {
            rate: number(rate),
            cpu,
            p50: number("p50_us"),
            p99: number("p99_us"),
        })
    }

    fn at(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self.clone()
        }
    }

    fn command(&self, role: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("BENCH_RT", self.runtime).arg(role);
        command.args(&self.options).args(["--url", &self.url]);
        command
    }

    /// The last line that it prints.
    fn report(&self, role: &str, options: &[&str]) -> Outcome<Value> {
        let output = self
            .command(role)
            .args(options)
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        match text.lines().last().filter(|_| output.status.success()) {
            Some(line) => Ok(serde_json::from_str(line)?),
            None => Err(format!("{} {role}: {}", self.name, output.status).into()),
        }
    }

    fn serve(&self, url: &str, queue: &str, prefetch: &str) -> Outcome<Running> {
        let mut command = self.at(url).command("server");
        Running::start(command.args(["--queue", queue, "--prefetch", prefetch]))
    }
}

/// The name of the relay, which is measured beside brokers and has no broker.
pub const FLOOR: &str = "tcp-relay";
