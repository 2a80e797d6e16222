//! The layers of this crate, held by a test: bytes <- frames <- conversation <- socket <- user.
//!
//! ```text
//! codec  <-  protocol  <-  driver  <-  client  <-  rpc  <-  bin
//!                ^                       ^
//!                |                       +--- broker, broker::server
//!                +--- broker::{exchange, queue, vhost, ..}, which are pure
//! ```
//!
//! One crate has no manifests between its layers to stop a `use` that points upwards, so this reads the sources and
//! does it. Tests inside `src` (`#[cfg(test)] mod ..`) may import what they like.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Some files and what they may name. The longest prefix that fits a file decides; files need not exist yet.
struct Layer {
    files: &'static str,
    imports: &'static [&'static str],
    /// No socket, no thread, no clock: octets, events and time are arguments.
    pure: bool,
}

/// The layer map: the whole rule, apart from [`CLOCK`] and [`LONG`].
#[rustfmt::skip] // a table
const LAYERS: &[Layer] = &[
    Layer { files: "src/codec/",           pure: true,  imports: &[] },
    Layer { files: "src/protocol/",        pure: true,  imports: &["codec"] },
    Layer { files: "src/driver",           pure: false, imports: &["codec", "protocol"] },
    Layer { files: "src/client/",          pure: false, imports: &["codec", "protocol", "driver"] },
    Layer { files: "src/broker/",          pure: true,  imports: &["codec", "protocol"] },
    // The listener, and the front door with its in-process client.
    Layer { files: "src/broker/server.rs", pure: false, imports: &["codec", "protocol", "driver", "client"] },
    Layer { files: "src/broker/session.rs", pure: false, imports: &["codec", "protocol", "driver"] },
    Layer { files: "src/broker/mod.rs",    pure: false, imports: &["codec", "protocol", "driver", "client"] },
    // On `client` alone: what it needs of the protocol is re-exported there.
    Layer { files: "src/rpc/",             pure: false, imports: &["codec", "client"] },
    Layer { files: "src/cli",              pure: false, imports: &["codec", "protocol", "driver", "client", "broker", "rpc"] },
    Layer { files: "src/bin/",             pure: false, imports: &["codec", "protocol", "driver", "client", "broker", "rpc", "cli"] },
    Layer { files: "src/lib.rs",           pure: false, imports: &["codec", "protocol", "driver", "client", "broker", "rpc", "cli"] },
];

/// Macros live at the root of the crate, whatever layer defines them: the name, and that layer.
const MACROS: &[(&str, &str)] = &[("short", "codec")];

/// What a pure file does not mention. `elapsed` reads the clock as much as `now` does.
const IMPURE: &[&str] = &[
    "tokio",
    "Instant::now",
    "SystemTime::now",
    "elapsed",
    "std::net",
    "std::thread",
    "std::fs",
];

/// The only files that ask for the time of day: a deadline travels in a message as one, and a dead letter is dated.
const CLOCK: &[&str] = &["src/rpc/deadline.rs", "src/broker/session.rs"];

/// No file is longer, tests and generators not counted...
const MAX_LINES: usize = 400;

/// ... but these, and why.
const LONG: &[(&str, &str)] = &[
    ("src/codec/method.rs", "a table of 64 rows"),
    (
        "src/codec/table.rs",
        "17 letters, each in the decoder, the encoder, equality and print",
    ),
    (
        "src/codec/domain.rs",
        "a vocabulary: many small types, none of which needs another",
    ),
];

/// A source file without what a reader would skip here.
struct Source {
    path: String,
    /// Lines of it, tests and generators not counted.
    lines: usize,
    /// Its code, without comments and without the text of strings.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let text = without_tests(text);
        Self {
            path: path.to_owned(),
            lines: text.lines().count(),
            code: without_comments(&text),
        }
    }

    fn layer(&self) -> Option<&'static Layer> {
        LAYERS
            .iter()
            .filter(|layer| self.path.starts_with(layer.files))
            .max_by_key(|layer| layer.files.len())
    }

    /// Everything that is wrong with it, as sentences.
    fn complaints(&self) -> Vec<String> {
        let Some(layer) = self.layer() else {
            return vec![format!("{}: has no row in LAYERS", self.path)];
        };
        let mut complaints = Vec::new();
        let mut complain = |what: String| complaints.push(format!("{}: {what}", self.path));

        for name in self.imports() {
            let module = MACROS
                .iter()
                .find(|(macro_name, _)| *macro_name == name)
                .map_or(name.as_str(), |(_, layer)| layer);
            if module != own_module(&self.path) && !layer.imports.contains(&module) {
                complain(format!("imports {name}; it may import {:?}", layer.imports));
            }
        }
        for word in IMPURE
            .iter()
            .filter(|word| layer.pure && mentions(&self.code, word))
        {
            complain(format!("mentions {word}, and this layer is pure"));
        }
        if mentions(&self.code, "SystemTime") && !CLOCK.contains(&&*self.path) {
            complain(format!("mentions SystemTime, which is for {CLOCK:?} alone"));
        }
        if self.reads_the_real_clock() {
            complain(
                "calls Instant::now of std; that of tokio::time can be paused by a test".into(),
            );
        }
        if self.lines > MAX_LINES && !LONG.iter().any(|(path, _)| *path == self.path) {
            complain(format!(
                "has {} lines, at most {MAX_LINES} are read in one sitting",
                self.lines
            ));
        }
        complaints
    }

    /// The modules at the root of the crate that it names: `codec` in `crate::codec::..`, `amqp_rpc::{codec::.., ..}`
    /// and, from within `broker`, `super::codec::..`
    fn imports(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let depth = self
            .path
            .trim_end_matches("/mod.rs")
            .trim_end_matches(".rs")
            .matches('/')
            .count();
        let up_to_the_root = format!("{}::", vec!["super"; depth].join("::"));
        for root in ["crate::", "amqp_rpc::", &up_to_the_root] {
            for (at, _) in self.code.match_indices(root) {
                let longer_word = self.code[..at]
                    .ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                if !longer_word {
                    names.extend(heads(&self.code[at + root.len()..]));
                }
            }
        }
        names.remove("self");
        names
    }

    /// Whether `now` is called on the `Instant` of std, also where it was imported under another name.
    fn reads_the_real_clock(&self) -> bool {
        let from_std = |item: &&str| item.contains("use std::") && mentions(item, "Instant");
        let imported = self.code.split(';').filter(from_std).map(|item| {
            let renamed = item.split("Instant as ").nth(1);
            renamed.map_or("Instant".into(), |name| heads(name).concat())
        });
        imported.chain(["std::time::Instant".into()]).any(|name| {
            let call = format!("{name}::now");
            self.code.match_indices(&call).any(|(at, _)| {
                let before = &self.code[..at];
                let longer_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
                !longer_name && !before.ends_with("tokio::time::")
            })
        })
    }
}

/// `src/codec/frame.rs` is in `codec`, and `src/driver.rs` is `driver`.
fn own_module(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split(['/', '.']).next().unwrap()
}

/// The first name of a path, or the first name of each path of a group: `codec` and `client` of `{codec::X, client}`.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut names, mut depth, mut start) = (vec![name(group)], 0usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = at + 1,
            _ => continue,
        }
        if start == at + 1 {
            names.push(name(&group[start..]));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Whether `word` stands in the code by itself, not as a part of a longer name.
fn mentions(code: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(in_name) && !code[at + word.len()..].starts_with(in_name)
    })
}

/// Leaves out modules under `#[cfg(test)]` or `#[cfg(any(test, ..))]`; rustfmt puts their last brace in column 0.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let for_tests = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(any(test");
        let opens_module = lines
            .peek()
            .is_some_and(|next| next.contains("mod ") && next.ends_with('{'));
        if for_tests && opens_module {
            lines.by_ref().find(|line| *line == "}");
        } else {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// Leaves out comments and the text of strings, which may say anything. Of a string over several lines only the first
/// is left out: too strict, where the other mistake would hide code.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let (mut in_string, mut escaped, mut rest) = (false, false, line.chars().peekable());
        while let Some(c) = rest.next() {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '\'' if !in_string && rest.peek() == Some(&'"') => _ = rest.next(), // the char '"'
                '"' => in_string = !in_string,
                '/' if !in_string && rest.peek() == Some(&'/') => break,
                c if !in_string => code.push(c),
                _ => {}
            }
        }
        code.push('\n');
    }
    code
}

/// Every Rust file under `directory`, by its path from the root of the crate.
fn sources(directory: &Path) -> Vec<Source> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let mut sources = Vec::new();
    for path in entries {
        if path.is_dir() {
            sources.extend(self::sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            let name = path
                .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                .unwrap()
                .to_str()
                .unwrap();
            sources.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
        }
    }
    sources
}

/// `tests.rs` and the files in `tests/`, which some module declares under `#[cfg(test)]`.
fn is_test(path: &Path) -> bool {
    let directory = path.parent().and_then(Path::file_name);
    path.file_stem()
        .into_iter()
        .chain(directory)
        .any(|name| name == "tests")
}

#[test]
fn every_file_keeps_to_its_layer() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() >= 9, "the codec alone has nine files");
    let complaints: Vec<_> = sources.iter().flat_map(Source::complaints).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn an_exception_that_is_not_needed_any_more_goes() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for (path, reason) in LONG {
        let source = sources
            .iter()
            .find(|source| source.path == *path)
            .unwrap_or_else(|| panic!("no {path}"));
        assert!(
            source.lines > MAX_LINES,
            "{path} has {} lines now, so it need not be {reason}",
            source.lines
        );
    }
}

/// The rules, each broken once: without this nobody would know that they can fail.
#[test]
fn every_rule_can_be_broken() {
    let long = "\n".repeat(MAX_LINES + 1);
    #[rustfmt::skip] // a table
    let broken = [
        ("src/codec/frame.rs",       "use crate::protocol::Connection;",                     "imports protocol"),
        ("src/codec/frame.rs",       "use super::super::protocol::Connection;",              "imports protocol"),
        ("src/codec/mod.rs",         "use super::protocol::Connection;",                     "imports protocol"),
        ("src/protocol/mod.rs",      "use crate::{codec::{Frame, Method}, driver::run};",    "imports driver"),
        ("src/driver.rs",            "fn f(c: crate::client::Connection) {}",                "imports client"),
        ("src/client/mod.rs",        "use crate::broker::Broker;",                           "imports broker"),
        ("src/broker/vhost.rs",      "use crate::driver;",                                   "imports driver"),
        ("src/rpc/client.rs",        "use crate::protocol::Event;",                          "imports protocol"),
        ("src/client/mod.rs",        "use crate::Error;",                                    "imports Error"),
        ("src/broker/mod.rs",        "use crate::cli::Args;",                                "imports cli"),
        ("src/protocol/mod.rs",      "use tokio::sync::mpsc;",                               "mentions tokio"),
        ("src/broker/queue.rs",      "let now = Instant::now();",                            "mentions Instant::now"),
        ("src/protocol/channel.rs",  "let late = since.elapsed() > limit;",                  "mentions elapsed"),
        ("src/client/mod.rs",        "let now = std::time::SystemTime::now();",              "SystemTime"),
        ("src/driver.rs",            "let now = std::time::Instant::now();",                 "of std"),
        ("src/driver.rs",            "use std::time::{Duration, Instant};\nlet now = Instant::now();", "of std"),
        ("src/driver.rs",            "use std::time::Instant as Wall;\nlet now = Wall::now();", "of std"),
        ("src/client/mod.rs",        long.as_str(),                                          "has 401 lines"),
        ("src/surprise.rs",          "",                                                     "has no row"),
    ];
    for (path, text, complaint) in broken {
        let complaints = Source::new(path, text).complaints();
        assert!(
            complaints.iter().any(|said| said.contains(complaint)),
            "{path}: expected \"{complaint}\", got {complaints:?}"
        );
    }

    #[rustfmt::skip] // a table
    let allowed = [
        ("src/protocol/mod.rs",      "use crate::{codec::{Frame, Method}, protocol::ledger};"),
        ("src/protocol/mod.rs",      "let name = crate::short!(\"x\"); // not crate::client, nor tokio"),
        ("src/codec/frame.rs",       "//! [`Connection`](crate::protocol::Connection)"),
        ("src/codec/frame.rs",       "#[cfg(test)]\nmod tests {\n    use crate::client::Connection;\n}\nuse super::Parse;"),
        ("src/driver.rs",            "use std::time::Duration;\nuse tokio::time::Instant;\nlet now = Instant::now();"),
        ("src/driver.rs",            "use std::time::Instant;\nlet now: Instant = tokio::time::Instant::now().into_std();"),
        ("src/driver.rs",            "use std::time::Instant as Wall;\nuse tokio::time::Instant;\nlet now = Instant::now();"),
        ("src/broker/server.rs",     "use super::vhost::Vhost;\nuse crate::{client::Connection, driver::run};"),
        ("src/rpc/deadline.rs",      "let now = std::time::SystemTime::now();"),
        ("src/bin/wiretap.rs",       "use amqp_rpc::{cli::Args, codec::annotate, rpc};"),
    ];
    for (path, text) in allowed {
        assert_eq!(
            Source::new(path, text).complaints(),
            Vec::<String>::new(),
            "{path}: {text:?}"
        );
    }
}
