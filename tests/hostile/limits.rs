//! The tables of docs/limits.md, held to the code.

use std::{collections::BTreeSet, fs, path::Path};

use amqp_rpc::{
    broker::{BrokerOptions, VhostOptions},
    client::ConnectOptions,
    protocol::{ClientConfig, ServerConfig, Tuning},
};

use super::Meter;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What, default, name, and what is met.
fn rows() -> Vec<[String; 4]> {
    let page = read(&root().join("docs/limits.md"));
    let cells = |line: &str| -> Option<[String; 4]> {
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<String> = inner.split(" | ").map(str::to_owned).collect();
        cells.try_into().ok()
    };
    page.lines()
        .filter_map(cells)
        .filter(|row| row[2] != "set by")
        .collect()
}

/// `256 KiB` and `10,000` as numbers, and times in seconds.
fn number(text: &str) -> u64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u64 = number.replace(',', "").parse().unwrap();
    number
        * match unit {
            "" | "s" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            other => panic!("a unit {other:?}"),
        }
}

/// The value of a constant, as the sources have it; where two have one of this name, the module stands before it.
fn constant(path: &str) -> u64 {
    let (module, name) = path.rsplit_once("::").unwrap_or(("", path));
    let file = format!("{}.rs", module.replace("::", "/"));
    let mut values = BTreeSet::new();
    each_source(&root().join("src"), &mut |path, text| {
        if !module.is_empty() && !path.ends_with(&file) {
            return;
        }
        for line in text.lines() {
            let line = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            let Some(rest) = line
                .strip_prefix("const ")
                .and_then(|line| line.strip_prefix(name))
            else {
                continue;
            };
            let Some((_, value)) = rest
                .strip_prefix(": ")
                .and_then(|rest| rest.split_once(" = "))
            else {
                continue;
            };
            values.insert(evaluate(value.trim_end_matches(';')));
        }
    });
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values.pop_first().unwrap()
}

fn each_source(path: &Path, see: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, see);
        } else if path.extension().is_some_and(|end| end == "rs") {
            see(&path, &read(&path));
        }
    }
}

/// `64 * 1024`, `1 << 20`, `Duration::from_secs(10)`.
fn evaluate(text: &str) -> u64 {
    let plain = |text: &str| -> u64 { text.trim().replace('_', "").parse().unwrap() };
    if let Some((left, right)) = text.split_once("<<") {
        return plain(left) << plain(right);
    }
    if let Some((left, right)) = text.split_once('*') {
        return plain(left) * plain(right);
    }
    for (unit, seconds) in [("Duration::from_secs(", 1), ("Duration::from_mins(", 60)] {
        if let Some(inner) = text.strip_prefix(unit) {
            return plain(inner.trim_end_matches(')')) * seconds;
        }
    }
    plain(text)
}

/// The default of an option.
fn option(name: &str) -> Option<u64> {
    let (broker, vhost) = (BrokerOptions::default(), VhostOptions::default());
    let (server, client) = (ServerConfig::default(), ClientConfig::default());
    let connect = format!("{:?}", ConnectOptions::default());
    let shown = |field: &str| {
        let (_, rest) = connect.split_once(&format!("{field}: ")).unwrap();
        number(
            rest.split([',', ' ', '}'])
                .next()
                .unwrap()
                .trim_end_matches('s'),
        )
    };
    Some(match name {
        "Tuning::frame_max" => Tuning::default().frame_max.into(),
        "Tuning::channel_max" => Tuning::default().channel_max.into(),
        "body_limit" => {
            assert_eq!(broker.body_limit, client.body_limit);
            assert_eq!(broker.body_limit, server.body_limit);
            broker.body_limit
        }
        "handshake_timeout" => {
            assert_eq!(broker.handshake_timeout, client.handshake_timeout);
            assert_eq!(broker.handshake_timeout, server.handshake_timeout);
            broker.handshake_timeout.as_secs()
        }
        "BrokerOptions::max_connections" => broker.max_connections as u64,
        "VhostOptions::memory_limit" => vhost.memory_limit as u64,
        "VhostOptions::entry_limit" => vhost.entry_limit as u64,
        "VhostOptions::max_consumers" => vhost.max_consumers as u64,
        "VhostOptions::max_unacked" => vhost.max_unacked as u64,
        "VhostOptions::max_unsent_octets" => vhost.max_unsent_octets as u64,
        "ConnectOptions::consumer_octets" => shown("consumer_octets"),
        "ConnectOptions::operation_timeout" => shown("operation_timeout"),
        _ => return None,
    })
}

#[test]
fn the_defaults_on_the_page_are_those_of_the_code() {
    let _meter = Meter::start(); // it reads all the sources
    let rows = rows();
    assert!(rows.len() >= 25, "the tables were found: {}", rows.len());
    for [what, default, name, meets] in &rows {
        let name = name.trim_matches('`');
        let value = option(name).unwrap_or_else(|| constant(name));
        assert_eq!(number(default), value, "{what}: {name}");
        assert!(!meets.is_empty(), "{what}");
    }
    // The one figure that is in no constant.
    let page = read(&root().join("docs/limits.md"));
    let (kept, read) = super::decoder::AMPLIFICATION;
    let amplification =
        format!("**an octet of a table takes up to {kept}, and {read} while it is read**");
    assert!(page.replace('\n', " ").contains(&amplification));
    let stranger = format!(
        "of {} KiB each before login",
        super::before_login::STRANGER / 1024
    );
    assert!(page.contains(&stranger));
}

#[test]
fn every_limit_that_can_be_set_is_on_the_page() {
    let _meter = Meter::start();
    let names: BTreeSet<String> = rows().into_iter().map(|[_, _, name, _]| name).collect();
    let mut missing = Vec::new();
    for (file, options) in [
        ("src/broker/server.rs", "BrokerOptions"),
        ("src/broker/vhost/mod.rs", "VhostOptions"),
        ("src/client/options.rs", "ConnectOptions"),
    ] {
        let text = read(&root().join(file));
        let (_, fields) = text
            .split_once(&format!("pub struct {options} {{"))
            .unwrap();
        let (fields, _) = fields.split_once("\n}").unwrap();
        for line in fields.lines() {
            let field = line
                .trim()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            let Some((field, kind)) = field
                .split_once(": ")
                .filter(|(field, _)| !field.starts_with('/'))
            else {
                continue;
            };
            let is_number = ["usize,", "u64,", "Duration,"].contains(&kind);
            let named = |name: String| names.contains(&format!("`{name}`"));
            if is_number && !named(format!("{options}::{field}")) && !named(field.into()) {
                missing.push(format!("{options}::{field}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
