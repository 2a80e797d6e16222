//! State machines, drawn by asking them: in each state everything that can happen is tried, on a connection of its own.
//!
//! So no diagram says what the code does not do, and none leaves out what it does. A state has the name of what it waits
//! for, as in the code.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use amqp_rpc::{
    codec::{
        BasicQos, BasicQosOk, ChannelId, METHODS, PROTOCOL_HEADER, Sender, describe, next_unit,
    },
    protocol::{ClientConfig, CloseReason, Connection, ServerConfig},
};
use bytes::BytesMut;

use crate::session::grammar;

/// Something that may happen to a connection.
#[derive(Clone, PartialEq)]
struct Step {
    /// How an arrow names it.
    label: String,
    act: Act,
    /// Whether it stands for many: such steps share an arrow where they have the same effect.
    common: Option<Lane>,
}

#[derive(Clone, Copy, PartialEq)]
enum Lane {
    Control,
    Other,
}

#[derive(Clone, PartialEq)]
enum Act {
    Hears(Vec<u8>),
    OpensChannel,
    ClosesChannel,
    Closes,
    EndOfStream,
    /// As long as this state may last.
    Time,
}

fn step(label: &str, act: Act) -> Step {
    Step {
        label: label.into(),
        act,
        common: None,
    }
}

/// A method as the peer would say it, with all that is not written empty or zero.
fn hears(label: &str, channel: u16, line: &str) -> Step {
    step(label, Act::Hears(grammar::frame(channel, line).unwrap()))
}

/// A connection to try things on.
struct Machine {
    side: Sender,
    core: Connection,
    now: Instant,
}

impl Machine {
    fn after(side: Sender, path: &[Step]) -> Self {
        let now = Instant::now();
        let core = match side {
            Sender::Client => Connection::client(ClientConfig::default(), now),
            _ => Connection::server(ServerConfig::default(), now),
        };
        let mut this = Self { side, core, now };
        this.said();
        for step in path {
            this.step(step);
        }
        this
    }

    /// What is said because of it, or nothing if our own side may not do it.
    fn step(&mut self, step: &Step) -> Option<Vec<String>> {
        let goodbye = CloseReason::goodbye();
        match &step.act {
            Act::Hears(octets) => {
                let mut inbound = BytesMut::from(&octets[..]);
                while self.core.receive(&mut inbound) {}
            }
            Act::OpensChannel => {
                let channel = self.core.open_channel().ok()?;
                (channel == ChannelId(1)).then_some(())?; // another one is no news of this one
            }
            Act::ClosesChannel => self.core.close_channel(ChannelId(1), &goodbye).ok()?,
            Act::Closes => self.core.close(&goodbye),
            Act::EndOfStream => self.core.end_of_stream(&mut BytesMut::new()),
            Act::Time => {
                self.now += Duration::from_secs(10);
                self.core.tick(self.now);
            }
        }
        Some(self.said())
    }

    fn said(&mut self) -> Vec<String> {
        let mut outbound = BytesMut::new();
        self.core.transmit(&mut outbound);
        let units = std::iter::from_fn(|| next_unit(&mut outbound));
        units.map(|unit| describe(&unit).name).collect()
    }

    fn may_send(&mut self) -> bool {
        match self.side {
            Sender::Client => self.core.send(ChannelId(1), BasicQos::default()).is_ok(),
            _ => self.core.send(ChannelId(1), BasicQosOk {}).is_ok(),
        }
    }
}

/// What a state may ignore, which is worth an arrow.
const ELSE: &str = "hears anything else";

/// After which nobody is there to be hung up on.
const END: &str = "end of stream";

/// From, to, and what stands at the arrow.
type Arrow = (String, String, String);

/// A state and some words, and all that leads to both.
struct Effect<'a> {
    to: String,
    said: Vec<String>,
    causes: Vec<&'a Step>,
}

/// Every arrow that leads from the states that can be reached, in the order in which they are.
fn explore(
    side: Sender,
    start: &[Step],
    steps: &[Step],
    name: impl Fn(Sender, &[Step]) -> Option<String>,
) -> Vec<Arrow> {
    let mut arrows: Vec<Arrow> = Vec::new();
    let mut known = vec![(name(side, start).unwrap(), start.to_vec())];
    let mut at = 0;
    while let Some((from, path)) = known.get(at).cloned() {
        at += 1;
        // What leads to the same state with the same words is one arrow.
        let mut effects: Vec<Effect> = Vec::new();
        for step in steps {
            let Some(said) = Machine::after(side, &path).step(step) else {
                continue;
            };
            let further = [&path[..], std::slice::from_ref(step)].concat();
            let Some(to) = name(side, &further) else {
                continue;
            };
            if to == from && said.is_empty() && step.label != ELSE {
                continue;
            }
            if !is_end(&to) && !known.iter().any(|(known, _)| *known == to) {
                known.push((to.clone(), further));
            }
            let same = |effect: &&mut Effect| effect.to == to && effect.said == said;
            match effects.iter_mut().find(same) {
                Some(effect) if step.common.is_some() => effect.causes.push(step),
                _ => effects.push(Effect {
                    to,
                    said,
                    causes: vec![step],
                }),
            }
        }
        for Effect { to, said, causes } in effects {
            let heard = label(&causes);
            let says = said
                .iter()
                .map(|name| short(name))
                .collect::<Vec<_>>()
                .join(", ");
            let says = match (says.as_str(), to.as_str()) {
                ("", "[*]") if heard == END => says,
                ("", "[*]") => "hangs up".to_owned(),
                ("close-ok", "[*]") => says,
                (_, "[*]") => format!("{says}, hangs up"),
                _ => says,
            };
            let slash = if says.is_empty() { "" } else { " / " };
            arrows.push((from.clone(), to, format!("{heard}{slash}{says}")));
        }
    }
    arrows
}

fn is_end(state: &str) -> bool {
    state == "[*]" || state == "Over"
}

fn label(causes: &[&Step]) -> String {
    let lanes: Vec<_> = causes.iter().map(|cause| cause.common).collect();
    match causes {
        [only] => only.label.clone(),
        _ if lanes.iter().all(|lane| *lane == Some(Lane::Control)) => {
            "anything else on channel 0".into()
        }
        _ if lanes.iter().all(|lane| *lane == Some(Lane::Other)) => {
            "a method on another channel".into()
        }
        _ => "anything else".into(),
    }
}

/// Class connection goes without saying, and so does channel.
fn short(name: &str) -> &str {
    let bare = name
        .strip_prefix("connection.")
        .or(name.strip_prefix("channel."));
    bare.unwrap_or(name)
}

/// Arrows from and to the same states are one with several lines, since Mermaid draws them over each other.
fn diagram(arrows: &[Arrow]) -> String {
    let mut drawn: Vec<Arrow> = Vec::new();
    for (from, to, says) in arrows.iter().cloned() {
        let same = |arrow: &&mut Arrow| arrow.0 == from && arrow.1 == to;
        match drawn.iter_mut().find(same) {
            Some((_, _, first)) => *first = format!("{first}<br>{says}"),
            None => drawn.push((from, to, says)),
        }
    }
    let mut text = "```mermaid\nstateDiagram-v2\n".to_owned();
    for (from, to, says) in drawn {
        let colon = if says.is_empty() { "" } else { " : " };
        writeln!(text, "    {from} --> {to}{colon}{says}").unwrap();
    }
    text + "```\n"
}

// ---- the handshake -----------------------------------------------------------------------------------------------

/// What a peer may say before a connection is open: the protocol header, noise, and each of the 64 methods.
fn everything() -> Vec<Step> {
    let mut all = vec![
        step("protocol header", Act::Hears(PROTOCOL_HEADER.into())),
        step(
            "another header",
            Act::Hears((*b"AMQP\x00\x01\x00\x00").into()),
        ),
    ];
    for row in METHODS {
        let says = match row.name {
            "connection.start" => "version-minor=9 mechanisms=\"PLAIN\"",
            "connection.start-ok" => "I am amqp-rpc 0.1.0; PLAIN, my password is (hidden)",
            "connection.tune-ok" => "channel-max=2047 frame-max=131072 heartbeat=60",
            "connection.open" => "virtual-host=\"/\"",
            _ => "",
        };
        let channel = u16::from(row.id.class != 10);
        all.push(hears(
            short(row.name),
            channel,
            &format!("{} {says}", row.name),
        ));
    }
    for step in &mut all {
        let on_control =
            matches!(&step.act, Act::Hears(octets) if octets[2] == 0 || octets[0] == b'A');
        step.common = Some(if on_control {
            Lane::Control
        } else {
            Lane::Other
        });
    }
    all
}

fn handshake_state(side: Sender, path: &[Step]) -> Option<String> {
    let core = Machine::after(side, path).core;
    if core.is_over() {
        return Some("[*]".into());
    }
    if core.is_open() || core.is_closing() {
        return Some(if core.is_open() { "Open" } else { "Closing" }.into());
    }
    let is_welcome = |step: &Step| {
        let core = Machine::after(side, &[path, std::slice::from_ref(step)].concat()).core;
        !core.is_over() && !core.is_closing()
    };
    let awaited = everything().into_iter().find(is_welcome)?;
    let last = awaited.label.split(' ').next_back()?; // of the protocol header
    let words = last
        .split('-')
        .map(|word| word[..1].to_uppercase() + &word[1..]);
    Some(words.fold("Await".to_owned(), |name, word| name + &word))
}

/// The arrows of a handshake, up to open: the way there, and then what else may come. `also` are mistakes, each with the
/// state in which it is one of its own.
fn handshake(side: Sender, first: &str, also: &[(&str, Step)]) -> String {
    let mistakes: Vec<_> = also.iter().map(|(_, step)| step.clone()).collect();
    let steps = [&everything()[..], &mistakes].concat();
    let arrows = explore(side, &[], &steps, handshake_state);
    let is_one = |(from, _, says): &Arrow| {
        let place = also.iter().find(|(_, step)| says.starts_with(&step.label));
        from.starts_with("Await") && place.is_none_or(|(state, _)| from == state)
    };
    let leads_on = |(_, to, _): &Arrow| to.starts_with("Await") || to == "Open";
    let begins = ("[*]".into(), arrows[0].0.clone(), first.into());
    let (on, off): (Vec<_>, Vec<_>) = arrows.into_iter().filter(is_one).partition(leads_on);
    diagram(&[vec![begins], on, off].concat())
}

pub(super) fn handshake_client() -> String {
    handshake(Sender::Client, "says the protocol header", &[])
}

pub(super) fn handshake_broker() -> String {
    let wrong = "connection.start-ok  mechanism=\"PLAIN\" response=\"\\x00guest\\x00wrong\"";
    let told = format!(
        "{wrong} client-properties={{capabilities: {{authentication_failure_close: true}}}}"
    );
    let above = "connection.tune-ok  channel-max=65535";
    let nowhere = "connection.open  virtual-host=\"nosuch\"";
    let mistakes = [
        (
            "AwaitStartOk",
            hears("wrong password, can read a refusal", 0, &told),
        ),
        ("AwaitStartOk", hears("wrong password", 0, wrong)),
        ("AwaitTuneOk", hears("tune-ok above the offer", 0, above)),
        ("AwaitOpen", hears("open, no such virtual host", 0, nowhere)),
    ];
    handshake(Sender::Broker, "is connected to", &mistakes)
}

// ---- channels ----------------------------------------------------------------------------------------------------

/// What makes a connection an open one.
fn to_open(side: Sender) -> Vec<Step> {
    let wanted: &[&str] = match side {
        Sender::Client => &["start", "tune", "open-ok"],
        _ => &["protocol header", "start-ok", "tune-ok", "open"],
    };
    let all = everything();
    let find = |label: &&str| {
        all.iter()
            .find(|step| step.label == *label)
            .unwrap()
            .clone()
    };
    wanted.iter().map(find).collect()
}

fn channel_state(side: Sender, path: &[Step]) -> Option<String> {
    let then = |line: &str| {
        let mut machine = Machine::after(side, path);
        machine.step(&hears("", 1, line));
        machine
    };
    let mut machine = Machine::after(side, path);
    let name = if !machine.core.is_open() {
        return None; // the connection ends, and no diagram of channels shows it
    } else if machine.may_send() {
        "Open"
    } else if then("channel.open-ok").may_send() {
        "Opening"
    } else if then("channel.close-ok").core.is_open() {
        "Closing"
    } else {
        "Closed"
    };
    Some(name.into())
}

pub(super) fn channel() -> String {
    let steps = |own: &[Step], other: &str| {
        let methods = ["open", "open-ok", "close", "close-ok"];
        let heard =
            methods.map(|name| hears(&format!("hears {name}"), 1, &format!("channel.{name}")));
        [own, &heard, &[hears(ELSE, 1, other)]].concat()
    };
    let sends_close = step("sends close", Act::ClosesChannel);
    let client = [step("sends open", Act::OpensChannel), sends_close.clone()];
    let arrows = both_sides(
        [
            &steps(&client, "basic.qos-ok"),
            &steps(&[sends_close], "basic.qos"),
        ],
        channel_state,
    );
    let begins = ("[*]".into(), arrows[0].0.clone(), String::new());
    let ignores = |(from, _, says): &Arrow| from == "Open" && says.ends_with(ELSE); // there it is what the channel is for
    let arrows = arrows.into_iter().filter(|arrow| !ignores(arrow));
    diagram(&std::iter::once(begins).chain(arrows).collect::<Vec<_>>())
}

/// The arrows of both sides; one that only one of them has says so, if the other one knows the state.
fn both_sides(
    [client, broker]: [&[Step]; 2],
    name: fn(Sender, &[Step]) -> Option<String>,
) -> Vec<Arrow> {
    let arrows = |side, steps| -> Vec<Arrow> {
        let all = explore(side, &to_open(side), steps, name);
        let once = |(from, to, says): Arrow| {
            // `sends close / close` says it twice.
            let says = match says.split_once(" / ") {
                Some((sends, _)) if sends.starts_with("sends ") => sends.to_owned(),
                _ => says,
            };
            (from, to, says)
        };
        all.into_iter().map(once).collect()
    };
    let sides = [
        arrows(Sender::Client, client),
        arrows(Sender::Broker, broker),
    ];
    let mut all: Vec<Arrow> = Vec::new();
    for (own, other, side) in [(0, 1, "client"), (1, 0, "broker")] {
        for arrow @ (from, to, says) in &sides[own] {
            let is_shared = sides[other].contains(arrow);
            let knows = sides[other].iter().any(|(state, ..)| state == from);
            let says = if knows && !is_shared {
                format!("{side} {says}")
            } else {
                says.clone()
            };
            let arrow = (from.clone(), to.clone(), says);
            if !all.contains(&arrow) {
                all.push(arrow);
            }
        }
    }
    // State by state, in the order in which they are met.
    let place = |state: &String| all.iter().position(|(from, ..)| from == state);
    let mut sorted = all.clone();
    sorted.sort_by_key(|(from, ..)| place(from));
    sorted
}

// ---- closing -----------------------------------------------------------------------------------------------------

fn closing_state(side: Sender, path: &[Step]) -> String {
    let mut machine = Machine::after(side, &[]);
    let said: Vec<_> = path
        .iter()
        .filter_map(|step| machine.step(step))
        .flatten()
        .collect();
    let name = if machine.core.is_open() {
        "Open"
    } else if machine.core.is_over() {
        "Over"
    } else if said.iter().any(|name| name == "connection.close") {
        "Closing"
    } else {
        "Lingering"
    };
    name.into()
}

pub(super) fn closing() -> String {
    let steps = [
        step("sends close", Act::Closes),
        hears("hears close", 0, "connection.close"),
        hears("hears close-ok", 0, "connection.close-ok"),
        hears(ELSE, 1, "channel.open"),
        step(END, Act::EndOfStream),
        step("10 s pass", Act::Time),
    ];
    let concerns_closing = |(from, _, says): &Arrow| {
        let mistake = from == "Open" && (says.contains("hears close-ok") || says.contains(ELSE));
        let again = from != "Open" && says.contains("sends close");
        !mistake && !again
    };
    let arrows = both_sides([&steps, &steps], |side, path| {
        Some(closing_state(side, path))
    });
    diagram(
        &arrows
            .into_iter()
            .filter(concerns_closing)
            .collect::<Vec<_>>(),
    )
}

#[test]
fn the_diagrams_have_the_arrows_that_the_rules_ask_for() {
    let has = |diagram: &str, arrow: &str| {
        let (states, says) = arrow.split_once(" : ").unwrap();
        let drawn = diagram
            .lines()
            .find(|line| line.trim().starts_with(&format!("{states} : ")));
        let drawn = drawn.unwrap_or_else(|| panic!("{arrow}:\n{diagram}"));
        assert!(
            drawn
                .split(" : ")
                .nth(1)
                .unwrap()
                .split("<br>")
                .any(|line| line == says),
            "{arrow}:\n{diagram}"
        );
    };
    let client = handshake_client();
    has(&client, "AwaitStart --> AwaitTune : start / start-ok");
    has(&client, "AwaitTune --> AwaitOpenOk : tune / tune-ok, open");
    has(&client, "AwaitOpenOk --> Open : open-ok");
    let broker = handshake_broker();
    has(
        &broker,
        "AwaitHeader --> AwaitStartOk : protocol header / start",
    );
    has(&broker, "AwaitStartOk --> AwaitTuneOk : start-ok / tune");
    has(&broker, "AwaitTuneOk --> AwaitOpen : tune-ok");
    has(&broker, "AwaitOpen --> Open : open / open-ok");
    let channel = channel();
    has(&channel, "Closed --> Opening : client sends open");
    has(&channel, "Open --> Closing : sends close");
    has(&channel, "Closing --> Closing : hears close / close-ok");
    has(&channel, "Closing --> Closed : hears close-ok");
    let closing = closing();
    has(&closing, "Open --> Closing : sends close");
    has(
        &closing,
        "Open --> Lingering : broker hears close / close-ok",
    );
    has(&closing, "Closing --> Closing : hears anything else");
}
