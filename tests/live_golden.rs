//! Malformed octets against a live broker: every vector of `tests/data/golden.json` that breaks a rule is sent over a
//! socket of its own, and the answer must be the one the vector requires.
//!
//! On the built-in broker that is `required`, with its first reply code. On RabbitMQ 3.10 (ignored unless
//! `AMQP_TEST_URL` is set) it is what that broker was seen to do, `rabbitmq_3_10_8`; later versions may give any of the
//! acceptable answers, and where they do something else again the test only prints it.
//!
//! Where the two differ is a page, `docs/differences.md`: `BLESS=1 cargo test --test live_golden` writes it anew.
// A panic is how a test reports.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "support/raw.rs"]
mod raw;

use std::{env, fmt, fs, sync::Arc};

use amqp_rpc::{broker::Broker, client::Connection, codec::*, protocol::CloseReason};
use raw::{CHANNEL, PATIENCE, Raw, test_url};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// Connections at once: RabbitMQ takes 3 s to hang up on some of them.
const AT_ONCE: usize = 16;

/// A frame that is right, for those that are cut off to become: `basic.qos`, answered by `qos-ok`.
const QOS: &str = "0100010000000b003c000a00000000000100ce";

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Nothing was wrong: a request behind it is answered.
    Works,
    /// A close method, on channel 1 or on channel 0.
    Closed(Scope, u16),
    /// The socket was closed without a close method.
    Dropped,
    /// The same, after a protocol header.
    OtherVersion,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("the connection works"),
            Self::Closed(Scope::Channel, code) => write!(f, "channel.close {code}"),
            Self::Closed(Scope::Connection, code) => write!(f, "connection.close {code}"),
            Self::Dropped => f.write_str("the socket is closed"),
            Self::OtherVersion => f.write_str("a protocol header, and the socket is closed"),
        }
    }
}

/// One vector.
#[derive(Debug, Clone)]
struct Vector(Value);

impl Vector {
    fn all() -> Vec<Self> {
        let golden: Value = serde_json::from_str(include_str!("data/golden.json")).unwrap();
        golden["malformed"]
            .as_array()
            .unwrap()
            .iter()
            .cloned()
            .map(Self)
            .collect()
    }

    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap()
    }

    fn name(&self) -> &str {
        self.text("name")
    }

    fn is_cut_off(&self) -> bool {
        self.text("codec_result") == "incomplete"
    }

    /// The octets that make a whole of what is cut off.
    fn rest(&self) -> Vec<u8> {
        let whole = match self.text("stage") {
            "protocol-header" => PROTOCOL_HEADER.to_vec(),
            _ => octets(QOS),
        };
        let begun = octets(self.text("hex"));
        whole
            .strip_prefix(begun.as_slice())
            .expect("the beginning of the whole")
            .to_vec()
    }

    /// What the built-in broker has to do; more than one where the rules leave a choice.
    fn required(&self) -> Vec<Outcome> {
        let required = &self.0["required"];
        let codes = |scope| match required["reply_code"].as_u64() {
            Some(code) => vec![Outcome::Closed(scope, u16::try_from(code).unwrap())],
            None => Vec::new(),
        };
        match required["scope"].as_str().unwrap() {
            "none" => vec![Outcome::Works],
            "channel" => codes(Scope::Channel),
            "connection" => codes(Scope::Connection),
            "socket" if self.text("stage") == "protocol-header" => vec![Outcome::OtherVersion],
            "socket" | "socket-or-connection" => vec![Outcome::Dropped],
            // SEC-5: the text's 311 is one of the codes a broker may choose from, and RabbitMQ's 406 is ours.
            "channel-or-connection" => vec![Outcome::Closed(Scope::Channel, 406)],
            other => panic!("unknown scope {other}"),
        }
    }

    /// What any broker may do.
    fn acceptable(&self) -> Vec<Outcome> {
        let mut acceptable = self.required();
        let also = self.0["required"]["also_acceptable"].as_array();
        for code in also.into_iter().flatten() {
            match code.as_u64() {
                Some(code) => {
                    let code = u16::try_from(code).unwrap();
                    acceptable.extend(
                        [Scope::Channel, Scope::Connection]
                            .map(|scope| Outcome::Closed(scope, code)),
                    );
                }
                None => acceptable.push(Outcome::Works), // "accept"
            }
        }
        acceptable
    }

    /// What RabbitMQ 3.10.8 was seen to do.
    fn seen(&self) -> Outcome {
        let seen = &self.0["rabbitmq_3_10_8"];
        let code = || u16::try_from(seen["reply_code"].as_u64().unwrap()).unwrap();
        match seen["outcome"].as_str().unwrap() {
            "accepted" | "waits-for-more" => Outcome::Works,
            "connection.close" | "no-reaction-then-connection.close-on-next-method" => {
                Outcome::Closed(Scope::Connection, code())
            }
            "channel.close" => Outcome::Closed(Scope::Channel, code()),
            "socket-dropped-without-close" => Outcome::Dropped,
            "protocol-header-then-socket-closed" => Outcome::OtherVersion,
            other => panic!("unknown outcome {other}"),
        }
    }

    /// Whether RabbitMQ 3.10.8 says nothing to it, and closes when the next method comes.
    fn is_noticed_late(&self) -> bool {
        self.0["rabbitmq_3_10_8"]["outcome"] == "no-reaction-then-connection.close-on-next-method"
    }

    /// Sends it, and with `more` a request behind it, which shows that nothing was wrong; says what came back.
    async fn send(&self, uri: &str, more: bool) -> Outcome {
        let mut raw = match self.text("stage") {
            "protocol-header" => Raw::connect(uri).await,
            "handshake" => Raw::greeted(uri).await,
            _ => Raw::open(uri).await,
        };
        raw.send(&octets(self.text("prefix_hex"))).await;
        raw.send(&octets(self.text("hex"))).await;
        if self.is_cut_off() {
            raw.send(&self.rest()).await;
        }
        if self.text("stage") == "protocol-header" {
            return after_a_protocol_header(&mut raw).await;
        }
        if more {
            raw.say(CHANNEL, BasicQos::default()).await;
        }
        self.answer(&mut raw).await
    }

    /// Reads until something decides.
    async fn answer(&self, raw: &mut Raw) -> Outcome {
        let closed = |reason: CloseReason, scope| Outcome::Closed(scope, reason.code.0);
        loop {
            return match raw.method().await {
                Some(Method::BasicQosOk(_)) => Outcome::Works,
                Some(Method::ChannelClose(close)) => closed(close.into(), Scope::Channel),
                Some(Method::ConnectionClose(close)) => {
                    raw.say(ChannelId(0), ConnectionCloseOk {}).await;
                    closed(close.into(), Scope::Connection)
                }
                Some(_) => continue,
                None => Outcome::Dropped,
            };
        }
    }
}

/// A whole header is answered by `connection.start`, and anything else by a header.
async fn after_a_protocol_header(raw: &mut Raw) -> Outcome {
    let answer = raw.octets().await;
    if !answer.starts_with(b"AMQP") {
        return Outcome::Works;
    }
    raw.hung_up().await;
    Outcome::OtherVersion
}

fn octets(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// Sends every vector, some at a time, and gives those whose outcome was not `expected`, with the outcome.
async fn differences(uri: &str, expected: fn(&Vector) -> Vec<Outcome>) -> Vec<String> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut sending = JoinSet::new();
    for vector in Vector::all() {
        let (uri, turns) = (uri.to_owned(), turns.clone());
        sending.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let expected = expected(&vector);
            // A socket closed with octets unread is reset, and a reset may destroy the close that came before it
            // (CLOSE-12): nothing is sent behind what has to be answered with one.
            let more = expected.contains(&Outcome::Works) || vector.is_noticed_late();
            let outcome = timeout(PATIENCE, vector.send(&uri, more)).await;
            let name = vector.name();
            match outcome {
                Ok(outcome) if expected.contains(&outcome) => None,
                Ok(outcome) => Some(format!("{name}: {outcome}, not {}", expected[0])),
                Err(_) => Some(format!("{name}: no answer, where {} was due", expected[0])),
            }
        });
    }
    let mut different: Vec<_> = sending.join_all().await.into_iter().flatten().collect();
    different.sort();
    different
}

/// A row for each vector that RabbitMQ 3.10.8 answers in another way than we do, and how many they are.
fn table() -> String {
    let vectors = Vector::all();
    let row = |vector: &Vector| {
        let (here, there) = (&vector.required()[0], vector.seen());
        let late = vector.is_noticed_late();
        let what = vector.0["error_kind"].as_str().unwrap_or("-");
        let there = match (here == &there, late) {
            (true, false) => return None,
            (_, false) => there.to_string(),
            (_, true) => format!("no answer; {there} at the next method"),
        };
        Some(format!(
            "| {} | {what} | {there} | {here} |\n",
            vector.name()
        ))
    };
    let rows: Vec<_> = vectors.iter().filter_map(row).collect();
    let (all, different) = (vectors.len(), rows.len());
    format!(
        "Of {all} vectors {different} are answered in another way.\n\n\
         | vector | what it is | RabbitMQ 3.10.8 | here |\n|---|---|---|---|\n{}",
        rows.concat()
    )
}

#[test]
fn the_page_of_differences_is_what_the_vectors_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/differences.md");
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page
        .split_once("-->\n")
        .expect("the marker of the beginning");
    let (found, after) = rest.split_once("<!--").expect("the marker of the end");
    let table = format!("\n{}\n", table());
    if env::var_os("BLESS").is_some() {
        return fs::write(path, format!("{before}-->\n{table}<!--{after}")).unwrap();
    }
    assert!(
        found == table,
        "{path} is not what the vectors say\nBLESS=1 cargo test --test live_golden writes it anew"
    );
}

#[tokio::test]
async fn builtin_broker_answers_as_required() {
    let broker = Broker::start().await.unwrap();
    let bystander = Connection::open(&broker.uri()).await.unwrap();
    let channel = bystander.open_channel().await.unwrap();
    let different = differences(&broker.uri(), Vector::required).await;
    assert!(different.is_empty(), "{}", different.join("\n"));
    channel.qos(1).await.expect("nobody else was harmed");
    bystander.close().await.unwrap();
    broker.stop().await;
}

#[tokio::test]
#[ignore = "needs AMQP_TEST_URL, an AMQP broker"]
async fn rabbitmq_answers_as_recorded() {
    let uri = test_url();
    let connection = Connection::open(&uri).await.unwrap();
    let version = connection.opened().peer_properties.get("version");
    let version = version
        .and_then(FieldValue::as_long_string)
        .unwrap_or_default();
    if version.starts_with(b"3.10.") {
        let different = differences(&uri, |vector| vec![vector.seen()]).await;
        assert!(different.is_empty(), "{}", different.join("\n"));
    } else {
        let acceptable = |vector: &Vector| {
            let mut acceptable = vector.acceptable();
            acceptable.push(vector.seen());
            acceptable
        };
        for different in differences(&uri, acceptable).await {
            println!("RabbitMQ {}: {different}", version.escape_ascii());
        }
    }
    connection.close().await.unwrap();
}
