//! This library beside others on one broker, and the built-in broker beside RabbitMQ.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin compare -- rpc    --url URL
//! cargo run --release --manifest-path benches/Cargo.toml --bin compare -- flow   --url URL
//! cargo run --release --manifest-path benches/Cargo.toml --bin compare -- broker --url URL
//! ```
//!
//! It builds what it compares, prints Markdown tables and a table of bars, and draws docs/*.svg. A program that takes
//! the arguments of `peer` is compared too: `--peer rabbitmq-c=PATH`. Figures come and go with what else the machine
//! does; ratios are taken within a round, and the band in the plot is what one peer differs by from itself.

mod rounds;
mod run;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use amqp_rpc_benches::{
    plot,
    process::{Package, Running, build, named_path},
    work::Outcome,
};
use clap::{Args, Parser, Subcommand};
use rounds::{CPU, Figure, P50, P99, RATE, Results, Twin};
use run::{FLOOR, Peer, Place, Work, octets};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Calls: this library, with its channels and with `RpcClient`, and the others, all with the same server.
    Rpc(Options),
    /// Publishing and consuming.
    Flow(Options),
    /// The built-in broker, RabbitMQ and a mere relay of octets, all with the same clients.
    Broker(Options),
}

#[derive(Args)]
struct Options {
    /// Of RabbitMQ.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    url: String,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How many times as many calls and messages.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// One more peer, which takes the arguments of `peer`.
    #[arg(long = "peer", value_name = "NAME=PATH", value_parser = named_path)]
    peers: Vec<(String, PathBuf)>,
    /// Whose server answers the calls of all.
    #[arg(long, default_value = CHANNEL, value_name = "NAME")]
    server: String,
    #[arg(long, value_delimiter = ',', default_value = "1,16,128,1024")]
    concurrency: Vec<usize>,
    /// In octets.
    #[arg(long, value_delimiter = ',', default_value = "16,1024")]
    body: Vec<usize>,
    /// Where the plot goes, if not into docs.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

const CHANNEL: &str = "amqp-rpc";
const RPC: &str = "amqp-rpc RpcClient";
const LAPIN: &str = "lapin";
/// As its documentation runs it; on one thread, as above, it needs less.
const LAPIN_MAIN: &str = "lapin, tokio::main";
const AMQPRS: &str = "amqprs";
const LIBRABBITMQ: &str = "rabbitmq-c";
const RABBITMQ: &str = "RabbitMQ";
const BUILT_IN: &str = "built-in";

/// Ours without the feature: what the others ask of tokio is not what our users get.
const PACKAGES: [Package; 3] = [
    Package {
        directory: ".",
        what: &["--bin", "peer", "--bin", "relay"],
    },
    Package {
        directory: ".",
        what: &["--features", "peers", "--bin", "lapin", "--bin", "amqprs"],
    },
    Package {
        directory: "..",
        what: &["--bin", "broker"],
    },
];

fn main() -> Outcome<()> {
    let Arguments { what } = Arguments::parse();
    let programs = build(&PACKAGES)?;
    match what {
        What::Rpc(options) => compare_rpc(&options, &programs),
        What::Flow(options) => compare_flow(&options, &programs),
        What::Broker(options) => compare_broker(&options, &programs),
    }
}

/// This library's peer, through channels or through `RpcClient`.
fn ours(programs: &Path, name: &str, url: &str) -> Peer {
    let api = if name == RPC { "rpc" } else { "channel" };
    Peer {
        name: name.into(),
        program: programs.join("peer"),
        options: vec!["--api".into(), api.into()],
        runtime: "current",
        url: url.into(),
        haste: 1,
    }
}

impl Options {
    fn libraries(&self, programs: &Path) -> Vec<Peer> {
        let peer = |name: &str, program: PathBuf, runtime| Peer {
            name: name.into(),
            program,
            options: Vec::new(),
            runtime,
            url: self.url.clone(),
            haste: 1,
        };
        let mut peers: Vec<Peer> = [CHANNEL, RPC]
            .map(|name| ours(programs, name, &self.url))
            .into();
        peers.push(peer(LAPIN, programs.join("lapin"), "current"));
        peers.push(peer(LAPIN_MAIN, programs.join("lapin"), "multi"));
        peers.push(peer(AMQPRS, programs.join("amqprs"), "current"));
        let others = self.peers.iter().cloned();
        peers.extend(others.map(|(name, program)| peer(&name, program, "current")));
        peers
    }

    fn take(&self, places: Vec<Place>, peers: Vec<Peer>, programs: &Path) -> Outcome<Results> {
        let filler = ours(programs, CHANNEL, &self.url);
        let server = self
            .libraries(programs)
            .into_iter()
            .find(|peer| peer.name == self.server);
        let server = server.ok_or_else(|| format!("no peer is called {}", self.server))?;
        let run = |peer: &Peer, place| peer.run(place, &server, &filler, self.scale);
        Ok(Results::take(places, peers, self.rounds, run))
    }

    fn draw(&self, default: &str, title: &str, panels: &[plot::Panel]) -> Outcome<()> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let path = self.plot.clone().unwrap_or_else(|| docs.join(default));
        plot::draw(&path, title, panels)
    }
}

fn compare_rpc(options: &Options, programs: &Path) -> Outcome<()> {
    let of_body = |&body| {
        options
            .concurrency
            .iter()
            .map(move |&concurrency| (body, concurrency))
    };
    let place = |(body, concurrency)| Place {
        work: Work::Calls { concurrency },
        body,
    };
    let places = options.body.iter().flat_map(of_body).map(place).collect();
    let mut peers = options.libraries(programs);
    let twin = Twin::of(CHANNEL, &mut peers);
    let results = options.take(places, peers, programs)?;
    results.print_tables(&[LAPIN, LIBRABBITMQ]);
    let bars = Bars::begin();
    for name in [CHANNEL, RPC] {
        for body in &options.body {
            let title = |what: &str| format!("{name}, {}: {what}", octets(*body));
            let at = |concurrency: usize| results.place(Work::Calls { concurrency }, *body);
            let row = |what: &str, to: &str, figure, wanted: Wanted, concurrency: &[usize]| {
                let cell = |calls: &usize| {
                    Some((
                        calls.to_string(),
                        results.ratio(at(*calls)?, name, to, figure),
                    ))
                };
                let cells = concurrency.iter().filter_map(cell).collect();
                bars.row(&title(&format!("{what} to {to}")), wanted, cells);
            };
            let all = &options.concurrency;
            let (alone, many): (Vec<usize>, Vec<usize>) =
                all.iter().partition(|calls| **calls == 1);
            if name == RPC {
                // Deadlines, confirms and returns cost it something; what it must not cost is the lead.
                for lapin in [LAPIN, LAPIN_MAIN] {
                    row("calls/s", lapin, RATE, Wanted::AtLeast(1.0), all);
                }
                continue;
            }
            for lapin in [LAPIN, LAPIN_MAIN] {
                row("calls/s", lapin, RATE, Wanted::AtLeast(1.4), all);
                row("CPU", lapin, CPU, Wanted::AtMost(0.4), all);
            }
            row("calls/s", LIBRABBITMQ, RATE, Wanted::AtLeast(1.0), all);
            row("CPU", LIBRABBITMQ, CPU, Wanted::AtMost(1.1), &alone);
            row("CPU", LIBRABBITMQ, CPU, Wanted::AtMost(0.8), &many);
        }
    }
    let panels = [
        results.ratios(
            "calls per second, as a ratio to lapin: higher is better",
            LAPIN,
            &twin,
            RATE,
        ),
        results.ratios(
            "processor time per call, as a ratio to lapin: lower is better",
            LAPIN,
            &twin,
            CPU,
        ),
    ];
    options.draw(
        "rpc-comparison.svg",
        "RPC over RabbitMQ: body, and calls at once",
        &panels,
    )
}

fn compare_flow(options: &Options, programs: &Path) -> Outcome<()> {
    let works = [Work::Publish, Work::ConsumeAuto, Work::ConsumeManual];
    let place = |&body| works.map(|work| Place { work, body });
    let places = options.body.iter().flat_map(place).collect();
    let mut peers = options.libraries(programs);
    peers.retain(|peer| peer.name != RPC); // calls are all it makes
    let twin = Twin::of(CHANNEL, &mut peers);
    let results = options.take(places, peers, programs)?;
    results.print_tables(&[LAPIN, LIBRABBITMQ]);
    let bars = Bars::begin();
    let row = |work: Work, to: &str, wanted: Wanted| {
        let cell = |body: &usize| {
            let place = results.place(work, *body)?;
            Some((octets(*body), results.ratio(place, CHANNEL, to, CPU)))
        };
        let cells = options.body.iter().filter_map(cell).collect();
        bars.row(&format!("{}: CPU to {to}", work.name()), wanted, cells);
    };
    row(Work::Publish, LIBRABBITMQ, Wanted::AtMost(1.0));
    row(Work::ConsumeAuto, LIBRABBITMQ, Wanted::AtMost(1.3));
    row(Work::ConsumeManual, LIBRABBITMQ, Wanted::AtMost(1.3));
    row(Work::ConsumeAuto, LAPIN, Wanted::AtMost(0.25));
    row(Work::ConsumeAuto, LAPIN_MAIN, Wanted::AtMost(0.25));
    let panels = [
        results.ratios(
            "messages per second, as a ratio to lapin: higher is better",
            LAPIN,
            &twin,
            RATE,
        ),
        results.ratios(
            "processor time per message, as a ratio to lapin: lower is better",
            LAPIN,
            &twin,
            CPU,
        ),
    ];
    options.draw(
        "flow-comparison.svg",
        "Publishing to and consuming from RabbitMQ",
        &panels,
    )
}

fn compare_broker(options: &Options, programs: &Path) -> Outcome<()> {
    let mut broker = Command::new(programs.join("broker"));
    let (_broker, said) = Running::start_and_hear(broker.args(["--listen", "127.0.0.1:0"]))?;
    let built_in = said
        .split_whitespace()
        .find(|word| word.starts_with("amqp://"));
    let built_in = built_in.ok_or_else(|| format!("no address in {said:?}"))?;
    let on = |name: &str, url: &str, haste| Peer {
        name: name.into(),
        haste,
        ..ours(programs, CHANNEL, url)
    };
    let mut peers = vec![on(RABBITMQ, &options.url, 1), on(BUILT_IN, built_in, 4)];
    peers.push(Peer {
        program: programs.join("relay"),
        options: Vec::new(),
        ..on(FLOOR, "", 4)
    });
    let twin = Twin::of(BUILT_IN, &mut peers);
    let (alone, many) = (
        Work::Calls { concurrency: 1 },
        Work::Calls { concurrency: 128 },
    );
    let flows = [Work::Publish, Work::ConsumeAuto, Work::ConsumeManual];
    let place = |work| Place { work, body: 16 };
    let places = [alone, many].into_iter().chain(flows).map(place).collect();
    let results = options.take(places, peers, programs)?;
    results.print_tables(&[RABBITMQ, FLOOR]);
    let bars = Bars::begin();
    let row =
        |work: Work, what: &str, wanted: Wanted, mark: &dyn Fn(usize) -> Option<plot::Mark>| {
            let cells = results
                .place(work, 16)
                .map(|place| (String::new(), mark(place)));
            bars.row(
                &format!("{}: {what}", place(work).title()),
                wanted,
                cells.into_iter().collect(),
            );
        };
    let rate = |place| results.ratio(place, BUILT_IN, RABBITMQ, RATE);
    let slow: Figure = |run| run.p99 / run.p50;
    row(
        alone,
        "p50 to a mere relay",
        Wanted::AtMost(2.0),
        &|place| results.ratio(place, BUILT_IN, FLOOR, P50),
    );
    row(many, "calls/s to RabbitMQ", Wanted::AtLeast(8.0), &rate);
    row(many, "p99 to p50", Wanted::AtMost(2.5), &|place| {
        results.figure(place, BUILT_IN, slow)
    });
    for work in flows {
        row(work, "messages/s to RabbitMQ", Wanted::AtLeast(5.0), &rate);
    }
    let panels = [
        results.ratios(
            "per second, as a ratio to RabbitMQ: higher is better",
            RABBITMQ,
            &twin,
            RATE,
        ),
        results.latencies("p50 of a call in µs: lower is better", &twin, P50),
        results.latencies("p99 of a call in µs: lower is better", &twin, P99),
    ];
    options.draw(
        "broker-comparison.svg",
        "The built-in broker beside RabbitMQ",
        &panels,
    )
}

/// A table of what has to hold, with what was found.
struct Bars;

/// At least or at most so much.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Bars {
    fn begin() -> Self {
        println!(
            "\n### Bars\n\nMedians; what misses the bar is bold.\n\n| bar | wanted | measured |\n|---|---:|---|"
        );
        Self
    }

    /// Nothing, if none of it was measured.
    fn row(&self, title: &str, wanted: Wanted, cells: Vec<(String, Option<plot::Mark>)>) {
        let cell = |(label, mark): (String, Option<plot::Mark>)| {
            let median = mark?.median;
            let text = if wanted.holds(median) {
                format!("{median:.2}")
            } else {
                format!("**{median:.2}**")
            };
            Some(if label.is_empty() {
                text
            } else {
                format!("{label}: {text}")
            })
        };
        let cells: Vec<String> = cells.into_iter().filter_map(cell).collect();
        if !cells.is_empty() {
            println!("| {title} | {wanted} | {} |", cells.join(", "));
        }
    }
}

impl Wanted {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}
