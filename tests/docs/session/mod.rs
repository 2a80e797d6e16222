//! Transcripts: every fence tagged `session` is replayed on the built-in broker, and what the broker says is compared.
//!
//! ```text
//! client ──▶ broker  channel 1  queue.declare  queue="jobs" durable      what a client says: the input
//! client ◀── broker  channel 1  queue.declare-ok  queue="jobs"           what the broker says: BLESS writes it
//! client ──▶ broker             octets  08 00 00 00 00 00 00 ce          the same octet by octet, right or wrong
//! client ──▶ broker             hangs up                                 the end of its stream
//! ... 30 s pass                                                          the clock; also `500 ms`
//! ... memory is low                                                      publishers are blocked
//! ... there is memory again
//! ... the broker stops                                                   as an operator would have it
//! # a comment
//! ```
//!
//! The first word names a connection. A connection is opened before its first line, and a channel before its own,
//! without a word about it; unless that line is a protocol header, octets that begin no frame, or a channel.open. The
//! client says only what stands there: no heartbeat and no close-ok of its own. Connections that were opened so have no
//! heartbeats. `session continued` goes on where the fence before it on the page has ended.

pub(crate) mod grammar;
mod values;
mod world;

use std::time::Duration;

use amqp_rpc::codec::{PROTOCOL_HEADER, describe};

use self::world::{Heard, World};
use crate::pages::{Fence, Finding, Page, fences, hold, pages};

const SENDS: &str = " ──▶ broker";
const HEARS: &str = " ◀── broker";

/// A line of a transcript.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    /// A comment or an empty line.
    Note,
    /// `... 30 s pass` and its like.
    Meanwhile(&'a str),
    Sends(&'a str, &'a str),
    HangsUp(&'a str),
    /// What the broker says, which is compared and never read.
    Hears,
}

fn step(line: &str) -> Result<Step<'_>, String> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(Step::Note);
    }
    if let Some(what) = line.strip_prefix("... ") {
        return Ok(Step::Meanwhile(what));
    }
    if line.contains(HEARS) || line == "broker hangs up" {
        return Ok(Step::Hears);
    }
    let (name, what) = match line.split_once(SENDS) {
        Some((name, what)) => (name.trim(), what.trim()),
        None => line.split_once(' ').unwrap_or((line, "")),
    };
    if name.is_empty() || name.contains(' ') {
        return Err(format!("no name of a connection: {name:?}"));
    }
    match (what, line.contains(SENDS)) {
        ("hangs up", _) => Ok(Step::HangsUp(name)),
        (what, true) => Ok(Step::Sends(name, what)),
        (_, false) => Err(format!(
            "`client{SENDS}  ...`, `... 30 s pass` or `# ...` was due"
        )),
    }
}

/// What a client says, as octets and as it is to be printed.
struct Said {
    octets: Vec<u8>,
    line: String,
    /// The channel, if it is a frame.
    channel: Option<u16>,
    /// Whether it can only be the first thing on its connection.
    is_greeting: bool,
    opens_channel: bool,
}

fn said(what: &str) -> Result<Said, String> {
    if let Some(hex) = what.strip_prefix("octets ") {
        let octet =
            |pair: &str| u8::from_str_radix(pair, 16).map_err(|_| format!("no octet: {pair}"));
        let octets = hex
            .split_whitespace()
            .map(octet)
            .collect::<Result<Vec<_>, _>>()?;
        let pairs: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let channel = match octets[..] {
            [1..=3 | 8, high, low, ..] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        };
        return Ok(Said {
            line: format!("{:<9}  octets  {}", "", pairs.join(" ")),
            is_greeting: channel.is_none(),
            opens_channel: octets.get(7..11) == Some(&[0, 20, 0, 10]),
            octets,
            channel,
        });
    }
    if what.starts_with("protocol header") {
        let octets = PROTOCOL_HEADER.to_vec();
        return Ok(Said {
            line: describe(&octets.clone().into()).to_string(),
            octets,
            channel: None,
            is_greeting: true,
            opens_channel: false,
        });
    }
    let laned = what
        .strip_prefix("channel ")
        .and_then(|rest| rest.split_once(' '));
    let (channel, what) = laned.ok_or("`channel 1  ...` was due")?;
    let channel: u16 = channel
        .parse()
        .map_err(|_| format!("no channel: {channel}"))?;
    let what = what.trim_start();
    let octets = grammar::frame(channel, what)?;
    let mut line = describe(&octets.clone().into()).to_string();
    if what.contains("response=") || what.contains("new-secret=") {
        line = format!("{:<9}  {what}", format!("channel {channel}")); // a line hides credentials
    }
    Ok(Said {
        octets,
        line,
        channel: Some(channel),
        is_greeting: false,
        opens_channel: what.starts_with("channel.open"),
    })
}

fn meanwhile(world: &mut World, what: &str) -> Result<(), String> {
    match what {
        "memory is low" => world.block(),
        "there is memory again" => world.unblock(),
        "the broker stops" => world.stop(),
        _ => {
            let time = what.strip_suffix(" pass").or(what.strip_suffix(" passes"));
            let (number, unit) = time
                .and_then(|time| time.split_once(' '))
                .unwrap_or_default();
            let number: u64 = number
                .parse()
                .map_err(|_| format!("what is {what:?}? `... 30 s pass`"))?;
            return match unit {
                "ms" => world.pass(Duration::from_millis(number)),
                "s" => world.pass(Duration::from_secs(number)),
                "min" => world.pass(Duration::from_mins(number)),
                _ => Err(format!("no unit of time: {unit:?}; ms, s or min")),
            };
        }
    }
    Ok(())
}

/// What is wrong with a transcript, and in which of its lines, from 0.
type Fault = (usize, String);

/// The transcript as it should be: what clients say in its form, and what the broker answers.
fn replay(world: &mut World, text: &str) -> Result<String, Fault> {
    let steps = text
        .lines()
        .enumerate()
        .map(|(at, line)| step(line).map_err(|why| (at, why)));
    let steps = steps.collect::<Result<Vec<_>, _>>()?;
    let names = steps.iter().filter_map(|step| match step {
        Step::Sends(name, _) | Step::HangsUp(name) => Some(name.chars().count()),
        _ => None,
    });
    // A fence that continues another may hear from connections that say nothing in it.
    let width = names
        .chain(world.names().map(|name| name.chars().count()))
        .max();
    let width = width.unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    let mut answers: Vec<String> = Vec::new();
    // Where further answers go, if the page has fewer.
    let mut place = 0;
    for (at, (step, line)) in steps.iter().zip(text.lines()).enumerate() {
        if matches!(
            step,
            Step::Sends(..) | Step::HangsUp(_) | Step::Meanwhile(_)
        ) {
            lines.splice(place..place, answers.drain(..));
            lines.push(
                act(world, step, width)
                    .map_err(|why| (at, why))?
                    .unwrap_or(line.to_owned()),
            );
            answers = world
                .heard()
                .into_iter()
                .map(|(name, heard)| answer(&name, heard, width))
                .collect();
            place = lines.len();
        } else if *step == Step::Hears {
            if !answers.is_empty() {
                lines.push(answers.remove(0));
                place = lines.len();
            }
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.splice(place..place, answers);
    Ok(lines.join("\n") + "\n")
}

fn answer(name: &str, heard: Heard, width: usize) -> String {
    let says = match heard {
        Heard::Says(says) => says,
        Heard::HangsUp => format!("{:<9}  hangs up", ""),
    };
    format!("{name:<width$}{HEARS}  {says}")
}

/// Does what a line says, and returns the line in its form, if that can differ.
fn act(world: &mut World, step: &Step<'_>, width: usize) -> Result<Option<String>, String> {
    match *step {
        Step::Sends(name, what) => {
            let said = said(what)?;
            match (world.knows(name), said.is_greeting) {
                (false, true) => world.accept(name),
                (false, false) => world.open(name),
                (true, _) => {}
            }
            match said.channel {
                Some(channel) if said.opens_channel => world.leave_channel(name, channel),
                Some(channel) => world.open_channel(name, channel),
                None => {}
            }
            world.receive(name, &said.octets)?;
            Ok(Some(format!("{name:<width$}{SENDS}  {}", said.line)))
        }
        Step::HangsUp(name) if world.knows(name) => {
            world.hang_up(name);
            Ok(Some(format!("{name:<width$}{SENDS}  {:<9}  hangs up", "")))
        }
        Step::HangsUp(name) => Err(format!("{name} has not said anything yet")),
        Step::Meanwhile(what) => meanwhile(world, what).map(|()| None),
        Step::Note | Step::Hears => Ok(None),
    }
}

fn findings(page: &Page) -> Vec<Finding> {
    let mut world = World::new();
    let mut findings = Vec::new();
    for fence in fences(page, "session") {
        match fence.tag.as_str() {
            "session" => world = World::new(),
            "session continued" => {}
            other => {
                let why = format!("what is {other:?}? `session` or `session continued`");
                findings.push(Finding::wrong(fence.line(), why));
            }
        }
        findings.extend(finding(&mut world, &fence));
    }
    findings
}

fn finding(world: &mut World, fence: &Fence) -> Option<Finding> {
    let replayed = match replay(world, &fence.text) {
        Ok(replayed) => replayed,
        Err((at, why)) => return Some(Finding::wrong(fence.line() + at, why)),
    };
    if replayed == fence.text {
        return None;
    }
    let nothing = "(the end)";
    let (mut found, mut due) = (fence.text.lines(), replayed.lines());
    let mut differs = (0..).map(|at| {
        (
            at,
            found.next().unwrap_or(nothing),
            due.next().unwrap_or(nothing),
        )
    });
    let (at, found, due) = differs.find(|(_, found, due)| found != due)?;
    let why = format!("the transcript goes on otherwise\n  page   {found}\n  broker {due}");
    Some(Finding::stale(
        fence.line() + at,
        why,
        fence.lines.clone(),
        replayed,
    ))
}

#[test]
fn every_transcript_is_what_the_broker_answers() {
    hold(&pages(&["README.md", "docs"], &["md"]), findings);
}

#[cfg(test)]
fn replayed(text: &str) -> Result<String, Fault> {
    replay(&mut World::new(), text)
}

#[test]
fn answers_follow_what_they_answer() {
    let input = "\
# a queue
client ──▶ broker channel 1 queue.declare queue=\"jobs\"
second ──▶ broker  channel 7  basic.consume  queue=\"jobs\" no-ack
client ──▶ broker  channel 1  basic.publish  routing-key=\"jobs\"
client ──▶ broker  channel 1  header  2 octets
client ──▶ broker  channel 1  body  \"30\"
";
    let expected = "\
# a queue
client ──▶ broker  channel 1  queue.declare  queue=\"jobs\"
client ◀── broker  channel 1  queue.declare-ok  queue=\"jobs\"
second ──▶ broker  channel 7  basic.consume  queue=\"jobs\" no-ack
second ◀── broker  channel 7  basic.consume-ok  consumer-tag=\"amq.ctag-1\"
client ──▶ broker  channel 1  basic.publish  routing-key=\"jobs\"
client ──▶ broker  channel 1    header  2 octets
client ──▶ broker  channel 1    body    \"30\"
second ◀── broker  channel 7  basic.deliver  consumer-tag=\"amq.ctag-1\" delivery-tag=1 routing-key=\"jobs\"
second ◀── broker  channel 7    header  2 octets
second ◀── broker  channel 7    body    \"30\"
";
    assert_eq!(replayed(input).as_deref(), Ok(expected));
    assert_eq!(replayed(expected).as_deref(), Ok(expected));
    // Wrong answers, one too many, and none: all are mended, and comments stay where they are.
    let stale = expected
        .replace("queue.declare-ok", "queue.delete-ok")
        .replace("delivery-tag=1", "delivery-tag=2");
    assert_eq!(replayed(&stale).as_deref(), Ok(expected));
    let doubled = expected.replace(
        "# a queue\n",
        "# a queue\nclient ◀── broker  channel 1  basic.ack\n",
    );
    assert_eq!(replayed(&doubled).as_deref(), Ok(expected));
    let commented = expected.replace(
        "second ◀── broker  channel 7    header",
        "# twice\nsecond ◀── broker  channel 7    header",
    );
    assert_eq!(replayed(&commented), Ok(commented));
}

#[test]
fn a_handshake_may_be_shown() {
    let input = "\
client ──▶ broker  protocol header
client ──▶ broker  channel 0  connection.start-ok  mechanism=\"PLAIN\" response=\"\\x00guest\\x00guest\" locale=\"en_US\"
client ──▶ broker  channel 0  connection.tune-ok  channel-max=10 frame-max=4096 heartbeat=10
client ──▶ broker  channel 0  connection.open  virtual-host=\"/\"
... 5 s pass
... 16 s pass
";
    let transcript = replayed(input).unwrap();
    assert_eq!(replayed(&transcript).as_ref(), Ok(&transcript));
    let said: Vec<_> = transcript
        .lines()
        .filter(|line| line.contains(HEARS))
        .collect();
    assert!(
        said[0].ends_with("log in with PLAIN AMQPLAIN"),
        "{transcript}"
    );
    assert!(said[2].ends_with("connection.open-ok"), "{transcript}");
    assert_eq!(said[3], "client ◀── broker  channel 0  heartbeat");
    assert_eq!(
        *said.last().unwrap(),
        "client ◀── broker             hangs up",
        "{transcript}"
    );
}

#[test]
fn octets_are_sent_as_they_stand() {
    let transcript = replayed("client ──▶ broker  octets  41 4d 51 50 00 01 00 00\n").unwrap();
    assert!(
        transcript.contains("protocol header  AMQP 0-9-1"),
        "{transcript}"
    );
    assert!(transcript.ends_with("hangs up\n"), "{transcript}");
    let transcript = replayed("client ──▶ broker  octets  08 00 00 00 00 00 00 cf\n").unwrap();
    assert!(
        transcript.contains("connection.close  reply-code=501"),
        "{transcript}"
    );
}

#[test]
fn what_happens_meanwhile() {
    let transcript = replayed(
        "\
client ──▶ broker  channel 1  queue.declare  queue=\"jobs\" exclusive
other ──▶ broker  channel 1  queue.declare  queue=\"jobs\" passive
... memory is low
client ──▶ broker  channel 1  basic.publish  routing-key=\"jobs\" mandatory
client ──▶ broker  channel 1  header  0 octets
client ──▶ broker  channel 1  basic.get  queue=\"jobs\" no-ack
... there is memory again
client ──▶ broker  hangs up
... the broker stops
",
    )
    .unwrap();
    let said: Vec<_> = transcript
        .lines()
        .filter(|line| line.contains(HEARS))
        .collect();
    assert!(
        said[1].starts_with("other  ◀── broker  channel 1  channel.close  reply-code=405"),
        "{transcript}"
    );
    assert!(
        said[2].ends_with("connection.blocked  reason=\"low on memory\""),
        "{transcript}"
    );
    assert!(said[3].ends_with("connection.unblocked"), "{transcript}");
    assert!(said[4].contains("basic.get-ok"), "{transcript}");
    assert!(
        said.last()
            .unwrap()
            .contains("connection.close  reply-code=320"),
        "{transcript}"
    );
}

#[test]
fn a_transcript_that_cannot_be_replayed_says_where_and_why() {
    let fault = |text: &str| replayed(text).unwrap_err();
    assert_eq!(
        fault("# x\nclient ──▶ broker  channel 1  queue.declar\n").0,
        1
    );
    assert!(fault("client says hello\n").1.contains("was due"));
    assert!(
        fault("client ──▶ broker  queue.declare\n")
            .1
            .contains("channel 1")
    );
    assert!(fault("client hangs up\n").1.contains("not said anything"));
    assert!(fault("... a while\n").1.contains("30 s pass"));
    let late = "client ──▶ broker  octets  47 45 54 20 2f 20 48 54\nclient ──▶ broker  channel 0  heartbeat\n";
    assert!(fault(late).1.contains("after the end"));
}
