//! Counted figures: instructions and system calls, which do not depend on what else a machine does.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin instructions -- check
//! cargo run --release --manifest-path benches/Cargo.toml --bin instructions -- rpc --url URL
//! ```
//!
//! `check` compares the core paths with benches/instructions.json, and fails when one has grown by more than five per
//! cent under the toolchain that is named there; `check --bless` writes the file. `rpc` counts a call over a broker,
//! in its client and in its server.
//! Each figure is the difference between a long and a short run, so that what happens once does not count.

mod callgrind;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use amqp_rpc_benches::{
    process::{Package, Running, build, named_path},
    work::Outcome,
};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The core paths, in memory.
    Check {
        /// Writes the figures down, in place of comparing them.
        #[arg(long)]
        bless: bool,
    },
    /// A call over a broker: what it takes a client and a server of each interface.
    Rpc(Rpc),
}

#[derive(Args)]
struct Rpc {
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    url: String,
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    concurrency: Vec<usize>,
    /// Octets.
    #[arg(long, default_value_t = 16)]
    body: usize,
    /// One more program to measure, which takes the arguments of `peer`.
    #[arg(long = "peer", value_name = "NAME=PATH", value_parser = named_path)]
    peers: Vec<(String, PathBuf)>,
}

fn main() -> Outcome<ExitCode> {
    let programs = build(&[Package {
        directory: ".",
        what: &["--bin", "counted", "--bin", "peer"],
    }])?;
    match Arguments::parse().what {
        What::Check { bless } => check(&programs, bless),
        What::Rpc(rpc) => rpc.print(&programs).map(|()| ExitCode::SUCCESS),
    }
}

/// Each path of `counted`, and how many frames one turn of it carries.
const PATHS: [(&str, u32); 4] = [
    ("publish", 3),
    ("deliver", 3),
    ("call", 12),
    ("channel-call", 13),
];

const SHORT: u64 = 200;
const LONG: u64 = 1_200;

/// Growth by more than this is a failure, in percent.
const TOLERANCE: f64 = 5.0;

fn check(programs: &Path, bless: bool) -> Outcome<ExitCode> {
    let counted = programs.join("counted");
    let turn = |path: &str| -> Outcome<u64> {
        let run = |times: u64| callgrind::count(&counted, &[path.into(), times.to_string()]);
        Ok((run(LONG)? - run(SHORT)?) / (LONG - SHORT))
    };
    let figures: BTreeMap<&str, u64> = PATHS
        .iter()
        .map(|(path, _)| Ok((*path, turn(path)?)))
        .collect::<Outcome<_>>()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let toolchain = toolchain()?;
    if bless {
        let text = serde_json::to_string_pretty(
            &json!({ "toolchain": toolchain, "instructions": figures }),
        )?;
        fs::write(&file, text + "\n")?;
    }
    let known: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let same = known["toolchain"] == toolchain;
    println!("Instructions, without libc's for memory:\n");
    println!(
        "| path | frames | instructions | per frame | before | change |\n|---|---:|---:|---:|---:|---:|"
    );
    let mut grown = false;
    for (path, frames) in PATHS {
        let now = figures[path];
        let before = known["instructions"][path]
            .as_u64()
            .ok_or_else(|| format!("{path} is not in the file"))?;
        let change = (now as f64 / before as f64 - 1.0) * 100.0;
        grown |= change > TOLERANCE;
        println!(
            "| {path} | {frames} | {now} | {} | {before} | {change:+.1} % |",
            now / u64::from(frames)
        );
    }
    println!();
    Ok(match (same, grown) {
        (false, _) => {
            println!(
                "Only told, not judged: the file is of {}, this is {toolchain}.",
                known["toolchain"]
            );
            ExitCode::SUCCESS
        }
        (true, false) => ExitCode::SUCCESS,
        (true, true) => {
            println!(
                "A path has grown by more than {TOLERANCE} %. If that is what it is worth: `check --bless`."
            );
            ExitCode::FAILURE
        }
    })
}

/// What else than our code the instructions depend on.
fn toolchain() -> Outcome<String> {
    let first_line = |program: &str, option: &str| -> Outcome<String> {
        let output = Command::new(program).arg(option).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!(
        "{}, {}",
        first_line("rustc", "--version")?,
        first_line("getconf", "GNU_LIBC_VERSION")?
    ))
}

/// The runs whose difference is taken.
const FEW: u64 = 1_000;
const MANY: u64 = 4_000;

/// strace counts the calls of a run that is fast enough for so many more.
const TRACED: u64 = 10;

/// Of `strace`'s calls, those that send.
const SENDS: [&str; 5] = ["sendto", "sendmsg", "sendmmsg", "write", "writev"];

/// A program, the name under which it is listed, and what is said to it before all else.
struct Candidate {
    name: String,
    program: PathBuf,
    options: Vec<String>,
}

impl Rpc {
    fn print(&self, programs: &Path) -> Outcome<()> {
        let peer = programs.join("peer");
        self.print_clients(&peer)?;
        self.print_servers(&peer)
    }

    /// Ours through channels, ours as `rpc` is called, and the others.
    fn candidates(&self, peer: &Path, role: &str, rpc: &str) -> Vec<Candidate> {
        let ours = |api: &str, name: &str| Candidate {
            name: name.to_owned(),
            program: peer.to_owned(),
            options: [role, "--api", api].map(str::to_owned).into(),
        };
        let others = self.peers.iter().map(|(name, program)| Candidate {
            name: name.clone(),
            program: program.clone(),
            options: vec![role.to_owned()],
        });
        let ours = [ours("channel", "amqp-rpc"), ours("rpc", rpc)];
        ours.into_iter().chain(others).collect()
    }

    fn print_clients(&self, peer: &Path) -> Outcome<()> {
        println!("For each call, in the client alone; instructions without libc's for memory:\n");
        println!("| calls at once | client | instructions | to amqp-rpc | system calls | sends |");
        println!("|---:|---|---:|---:|---:|---:|");
        let clients = self.candidates(peer, "client", "amqp-rpc RpcClient");
        self.rows(
            &clients,
            |Candidate {
                 program, options, ..
             },
             concurrency| {
                let mut server = Command::new(peer);
                let _server = Running::start(server.args(self.server(&["server"], concurrency)))?;
                let arguments = |calls| self.client(options, concurrency, calls);
                let each = of_a_call(|calls| callgrind::count(program, &arguments(calls)))?;
                let few = system_calls(program, &arguments(FEW * TRACED))?;
                let many = system_calls(program, &arguments(MANY * TRACED))?;
                let calls_of = |of: &dyn Fn(&BTreeMap<String, u64>) -> u64| {
                    of(&many).saturating_sub(of(&few)) as f64 / ((MANY - FEW) * TRACED) as f64
                };
                let all = calls_of(&|calls| calls.values().sum());
                let sends =
                    calls_of(&|calls| SENDS.iter().filter_map(|name| calls.get(*name)).sum());
                Ok((each, format!(" {all:.2} | {sends:.3} |")))
            },
        )
    }

    fn print_servers(&self, peer: &Path) -> Outcome<()> {
        println!("\nThe same in the server alone:\n");
        println!("| calls at once | server | instructions | to amqp-rpc |");
        println!("|---:|---|---:|---:|");
        let servers = self.candidates(peer, "server", "amqp-rpc RpcServer");
        self.rows(
            &servers,
            |Candidate {
                 program, options, ..
             },
             concurrency| {
                let arguments = self.server(options, concurrency);
                let each = of_a_call(|calls| {
                    callgrind::count_server(program, &arguments, || {
                        let mut client = Command::new(peer);
                        client.args(self.client(&["client".into()], concurrency, calls));
                        match client.stdout(Stdio::null()).status()? {
                            status if status.success() => Ok(()),
                            status => Err(format!("{client:?}: {status}").into()),
                        }
                    })
                })?;
                Ok((each, String::new()))
            },
        )
    }

    /// A row for each candidate: its instructions, how many times those of the first, and the columns that follow.
    fn rows(
        &self,
        candidates: &[Candidate],
        measure: impl Fn(&Candidate, usize) -> Outcome<(u64, String)>,
    ) -> Outcome<()> {
        for &concurrency in &self.concurrency {
            let mut first = None;
            for candidate in candidates {
                let (each, more) = measure(candidate, concurrency)?;
                let ratio = each as f64 / *first.get_or_insert(each) as f64;
                let name = &candidate.name;
                println!("| {concurrency} | {name} | {each} | {ratio:.2} |{more}");
            }
        }
        Ok(())
    }

    fn client(&self, options: &[String], concurrency: usize, calls: u64) -> Vec<String> {
        let mut arguments = self.common(options);
        let numbers = [
            ("--calls", calls.to_string()),
            ("--concurrency", concurrency.to_string()),
            ("--body", self.body.to_string()),
        ];
        arguments.extend(
            numbers
                .into_iter()
                .flat_map(|(name, n)| [name.to_owned(), n]),
        );
        arguments
    }

    fn server(&self, options: &[impl ToString], prefetch: usize) -> Vec<String> {
        let mut arguments = self.common(options);
        arguments.extend(["--prefetch".to_owned(), prefetch.to_string()]);
        arguments
    }

    fn common(&self, options: &[impl ToString]) -> Vec<String> {
        let queue = format!("perf.instructions.{}", std::process::id());
        let rest = ["--url", &self.url, "--queue", &queue].map(str::to_owned);
        let options = options.iter().map(ToString::to_string);
        options.chain(rest).collect()
    }
}

/// The difference between a long and a short run, for each call.
fn of_a_call(count: impl Fn(u64) -> Outcome<u64>) -> Outcome<u64> {
    Ok((count(MANY)? - count(FEW)?) / (MANY - FEW))
}

/// How often the program makes each system call, by strace, which slows it: batches are larger than without it.
fn system_calls(program: &Path, arguments: &[String]) -> Outcome<BTreeMap<String, u64>> {
    let out = std::env::temp_dir().join(format!("strace.{}", std::process::id()));
    let status = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&out)
        .arg(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("strace, which is a package of its own: {error}"))?;
    if !status.success() {
        return Err(format!("{} {arguments:?}: {status}", program.display()).into());
    }
    let table = fs::read_to_string(&out)?;
    fs::remove_file(&out)?;
    let row = |line: &str| {
        let (name, calls) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), calls.trim().parse().ok()?)).filter(|(name, _)| name != "total")
    };
    Ok(table.lines().filter_map(row).collect())
}
