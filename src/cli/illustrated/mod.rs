//! # The illustrated conversation: a page for a browser
//!
//! ```text
//! conversation ─▶ units ─▶ frame.rs ─┬─ annotator: which octets are which field
//!                                    └─ texts.rs ◀─ frames.txt, fields.txt: what it means, why, what may come next
//! ```
//!
//! One page, complete in itself. The structure is the annotator's and the conversation is the one that was heard, so
//! the page cannot show anything else than the program did. Only the texts are written by hand. Without scripts it can
//! be read; `script.js` adds the highlighting and the arrow keys.
//!
//! Read next: `frame`. Explained in `docs/conversation.html`, which is what it writes.

mod frame;
mod texts;

use bytes::BytesMut;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::conversation::{Direction, Scene, Unit};
use crate::codec::{ChannelId, Frame, Payload};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Nothing is fetched, by whatever mistake.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// The page of a conversation, which came to `result`.
pub fn page(scenes: &[Scene], result: &str) -> String {
    let mut scenes = scenes.to_vec();
    let heard: Vec<Unit> = scenes
        .iter()
        .flat_map(|scene| scene.units.clone())
        .collect();
    scenes.push(Scene {
        what: "What was not heard",
        why: "one more frame: on a line where nothing is said for half a minute, each side sends this",
        units: vec![heartbeat()],
    });
    let mut number = 0;
    let octets: usize = heard.iter().map(|unit| unit.octets.len()).sum();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="description" content="A remote call over AMQP 0-9-1, with every octet explained";
                title { "One remote call over AMQP 0-9-1, octet by octet" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#conversation" { "Skip to the conversation" }
                header {
                    h1 { "One remote call, octet by octet" }
                    (introduction(octets, heard.len(), result))
                    (overview(&scenes))
                }
                main id="conversation" tabindex="-1" {
                    p.names aria-hidden="true" {
                        b { "s" span { "erver" } } b { "b" span { "roker" } } b { "c" span { "lient" } }
                    }
                    @for (index, scene) in scenes.iter().enumerate() {
                        section aria-labelledby={ "s" (index) } {
                            h2 id={ "s" (index) } { (scene.what) }
                            p.why { (scene.why) }
                            ol {
                                @for unit in &scene.units {
                                    ({ number += 1; frame::unit(unit, number) })
                                }
                            }
                        }
                    }
                }
                footer {
                    p {
                        "Written by " code { "cargo run -- --html FILE" } " of " code { "amqp-rpc" }
                        ". The octets and their labels come from its own annotator; names and ids are made up in order, "
                        "so that the page is the same on every run."
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string() + "\n"
}

fn introduction(octets: usize, units: usize, result: &str) -> Markup {
    html! {
        p.lead {
            "A " b.client { "client" } " wants to know a number. A " b.server { "server" } " can compute it. They never "
            "speak to each other: each has a connection to a " b.broker { "broker" } ", over which they send "
            (octets) " octets in " (units) " pieces before they are done. Here are all of them, and the answer: "
            b { (result) } "."
        }
        p {
            "Open a frame to see what it means, why it is sent, what may come next, and its octets. "
            "Each octet belongs to a field, and each field to some octets: follow one to the other."
        }
        p.keys hidden {
            kbd { "↑" } kbd { "↓" } " from frame to frame, " kbd { "Enter" } " opens one. Inside, "
            kbd { "Tab" } " leads to its octets and its fields, the arrows from one to the next, " kbd { "Enter" }
            " to the counterpart, " kbd { "Esc" } " back to the frame."
        }
    }
}

/// Who speaks when: three lanes, time to the right. The same links stand below, so keys and readers pass this by.
fn overview(scenes: &[Scene]) -> Markup {
    const STEP: usize = 14;
    const LANES: [(&str, usize); 3] = [("server", 16), ("broker", 48), ("client", 80)];
    // A gap before each scene.
    let scene_of = |(index, scene): (usize, &'_ Scene)| vec![index; scene.units.len()];
    let scene_of: Vec<usize> = scenes.iter().enumerate().flat_map(scene_of).collect();
    let units = scenes.iter().flat_map(|scene| &scene.units);
    let width = (scene_of.len() + scenes.len()) * STEP;
    html! {
        nav aria-label="Scenes" {
            div.chart aria-hidden="true" {
                @for (name, _) in LANES { span.(name) { (name) } }
                svg.overview viewBox={ "0 0 " (width) " 96" } preserveAspectRatio="none" {
                    @for (name, y) in LANES { line.(name) x1="0" x2=(width) y1=(y) y2=(y) {} }
                    @for (index, (unit, scene)) in units.zip(scene_of).enumerate() {
                        (mark(unit, index + 1, (index + scene + 1) * STEP))
                    }
                }
            }
            ol {
                @for (index, scene) in scenes.iter().enumerate() {
                    li { a href={ "#s" (index) } { (scene.what) } }
                }
            }
        }
    }
}

fn mark(unit: &Unit, number: usize, x: usize) -> Markup {
    let (broker, lane) = (48, if unit.name == "server" { 16 } else { 80 });
    let (by, from, to) = match unit.direction {
        Direction::ToBroker => (unit.name, lane, broker),
        Direction::FromBroker => ("broker", broker, lane),
    };
    html! {
        a href={ "#u" (number) } tabindex="-1" {
            path.shaft.(by) d={ "M" (x) " " (from) "V" (to) } {}
            path.head.(by) d={ "M" (x) " " (to) "h0" } {}
        }
    }
}

fn heartbeat() -> Unit {
    let mut octets = BytesMut::new();
    let (channel, payload) = (ChannelId::CONTROL, Payload::Heartbeat);
    Frame { channel, payload }.encode(&mut octets);
    Unit {
        name: "client",
        direction: Direction::ToBroker,
        start: 0,
        octets: octets.freeze(),
    }
}
