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
    process::{Package, Running, build},
    work::Outcome,
};
use clap::{Args, Parser, Subcommand};
use rounds::{CPU, Figure, P50, P99, RATE, Results, Twin};
use run::{FLOOR, Peer, Place, Work};

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

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("NAME=PATH is wanted")?;
    Ok((name.into(), path.into()))
}

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
    print_bars(&results, |bars| {
        for name in [CHANNEL, RPC] {
            for (at, place) in results.places.iter().enumerate() {
                let alone = place.work == Work::Calls { concurrency: 1 };
                let title = format!("{name}: {}", place.title());
                for lapin in [LAPIN, LAPIN_MAIN] {
                    bars.ratio(
                        &format!("{title}: calls/s to {lapin}"),
                        at,
                        name,
                        lapin,
                        RATE,
                        1.4..,
                    );
                    bars.ratio(
                        &format!("{title}: CPU to {lapin}"),
                        at,
                        name,
                        lapin,
                        CPU,
                        ..=0.4,
                    );
                }
                let to_c = format!("to {LIBRABBITMQ}");
                bars.ratio(
                    &format!("{title}: calls/s {to_c}"),
                    at,
                    name,
                    LIBRABBITMQ,
                    RATE,
                    1.0..,
                );
                let most = if alone { 1.1 } else { 0.8 };
                bars.ratio(
                    &format!("{title}: CPU {to_c}"),
                    at,
                    name,
                    LIBRABBITMQ,
                    CPU,
                    ..=most,
                );
            }
        }
    });
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
    print_bars(&results, |bars| {
        for (at, place) in results.places.iter().enumerate() {
            let most = if place.work == Work::Publish {
                1.0
            } else {
                1.3
            };
            let title = format!("{}: CPU to {LIBRABBITMQ}", place.title());
            bars.ratio(&title, at, CHANNEL, LIBRABBITMQ, CPU, ..=most);
            for lapin in [LAPIN, LAPIN_MAIN] {
                if place.work == Work::ConsumeAuto {
                    let title = format!("{}: CPU to {lapin}", place.title());
                    bars.ratio(&title, at, CHANNEL, lapin, CPU, ..=0.25);
                }
            }
        }
    });
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
    print_bars(&results, |bars| {
        if let Some(at) = results.place(alone, 16) {
            bars.ratio(
                "RPC alone: p50 to a mere relay",
                at,
                BUILT_IN,
                FLOOR,
                P50,
                ..=2.0,
            );
        }
        if let Some(at) = results.place(many, 16) {
            bars.ratio(
                "RPC, 128 at once: calls/s to RabbitMQ",
                at,
                BUILT_IN,
                RABBITMQ,
                RATE,
                8.0..,
            );
            let slow: Figure = |run| run.p99 / run.p50;
            bars.amount("RPC, 128 at once: p99 to p50", at, BUILT_IN, slow, ..=2.5);
        }
        for work in flows {
            let Some(at) = results.place(work, 16) else {
                continue;
            };
            let title = format!("{}: messages/s to RabbitMQ", place(work).title());
            bars.ratio(&title, at, BUILT_IN, RABBITMQ, RATE, 5.0..);
        }
    });
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
struct Bars<'a>(&'a Results);

fn print_bars(results: &Results, fill: impl FnOnce(&Bars<'_>)) {
    println!(
        "\n### Bars\n\n| bar | wanted | median | least–most of the rounds | holds |\n|---|---:|---:|---:|---|"
    );
    fill(&Bars(results));
}

impl Bars<'_> {
    fn ratio(
        &self,
        title: &str,
        place: usize,
        name: &str,
        to: &str,
        figure: Figure,
        wanted: impl Wanted,
    ) {
        Self::row(title, self.0.ratio(place, name, to, figure), wanted);
    }

    fn amount(&self, title: &str, place: usize, name: &str, figure: Figure, wanted: impl Wanted) {
        Self::row(title, self.0.figure(place, name, figure), wanted);
    }

    /// Nothing, if it was not measured.
    fn row(title: &str, mark: Option<plot::Mark>, wanted: impl Wanted) {
        let Some(plot::Mark {
            least,
            median,
            greatest,
        }) = mark
        else {
            return;
        };
        let holds = if wanted.contains(&median) {
            "yes"
        } else {
            "**no**"
        };
        println!(
            "| {title} | {} | {median:.2} | {least:.2}–{greatest:.2} | {holds} |",
            wanted.text()
        );
    }
}

/// At least or at most so much.
trait Wanted: std::ops::RangeBounds<f64> {
    fn text(&self) -> String;
}

impl Wanted for std::ops::RangeFrom<f64> {
    fn text(&self) -> String {
        format!("≥ {}", self.start)
    }
}

impl Wanted for std::ops::RangeToInclusive<f64> {
    fn text(&self) -> String {
        format!("≤ {}", self.end)
    }
}
