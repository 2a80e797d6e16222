//! # The conversation: what was heard at a tap, told frame by frame, and kept
//!
//! ```text
//! .. 01 00 01 00 00 00 0d 00 3c │ 00 50 00 .. ce 08 00 ..     two reads, as TCP cut them
//!    └──────────── one unit ────┼────────────┘ └─ the next   "client ──▶ broker  channel 1  basic.ack  delivery-tag=1"
//! ```
//!
//! TCP delivers octets and not frames, so each direction is put together again, and a frame is told with its last octet.
//! What is printed is what the codec's own decoder and annotator make of it.
//!
//! Read next: [`flip`](super::flip). Explained in `docs/conversation.md`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use bytes::{Bytes, BytesMut};
use tokio::{sync::Notify, time::timeout};

use super::{flip::Flip, say};
use crate::codec::{Line, Redact, annotate, describe, next_unit};

/// Who sends and who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A program sends it.
    ToBroker,
    /// The broker sends it.
    FromBroker,
}

impl Direction {
    const fn arrow(self) -> &'static str {
        match self {
            Self::ToBroker => "──▶ broker",
            Self::FromBroker => "◀── broker",
        }
    }
}

/// A protocol header or a frame, as its sender meant it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Whose connection it is.
    pub name: &'static str,
    /// Who sends it.
    pub direction: Direction,
    /// Where it begins, in octets from the first that went this way on this connection.
    pub start: u64,
    /// All of it.
    pub octets: Bytes,
}

/// Some units that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// What happens.
    pub what: &'static str,
    /// How, or why.
    pub why: &'static str,
    /// What is said, in the order in which it was heard.
    pub units: Vec<Unit>,
}

/// A conversation: printed while it goes on, and kept.
#[derive(Debug)]
pub struct Script {
    hex: bool,
    scenes: Mutex<Vec<Scene>>,
}

impl Script {
    /// An empty one; with `hex` it is printed down to the octets.
    pub fn new(hex: bool) -> Arc<Self> {
        let scenes = Mutex::default();
        Arc::new(Self { hex, scenes })
    }

    /// Begins a scene.
    pub fn scene(&self, what: &'static str, why: &'static str) {
        let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
        say(format_args!("\n{bold}{what}{bold:#} {dim}- {why}{dim:#}"));
        let units = Vec::new();
        self.lock().push(Scene { what, why, units });
    }

    /// What was said so far.
    pub fn scenes(&self) -> Vec<Scene> {
        self.lock().clone()
    }

    fn said(&self, unit: Unit) {
        if let Some(scene) = self.lock().last_mut() {
            scene.units.push(unit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Scene>> {
        self.scenes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who talks to the broker, and how it is shown.
#[derive(Debug)]
pub struct Speaker {
    name: &'static str,
    style: Style,
    script: Arc<Script>,
    flip: Option<Flip>,
    heard: Mutex<Heard>,
    /// Somebody said something, or hung up.
    news: Notify,
}

/// What has crossed the tap.
#[derive(Debug, Default)]
struct Heard {
    /// What has not made a whole frame yet: sent, received.
    partial: [BytesMut; 2],
    /// Octets of whole units: sent, received.
    told: [u64; 2],
    hung_up: bool,
}

impl Speaker {
    /// A speaker whose part of the script is printed in `color`; one octet of what it sends may be inverted on the way.
    pub fn new(
        name: &'static str,
        color: AnsiColor,
        script: &Arc<Script>,
        flip: Option<Flip>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            style: color.on_default(),
            script: script.clone(),
            flip,
            heard: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// What it said and what it heard.
    pub fn units(&self) -> Vec<Unit> {
        let scenes = self.script.scenes();
        let all = scenes.into_iter().flat_map(|scene| scene.units);
        all.filter(|unit| unit.name == self.name).collect()
    }

    /// Whether the broker ended the stream.
    pub fn is_hung_up(&self) -> bool {
        self.lock().hung_up
    }

    /// Waits until nothing has crossed the tap for so long, once the octet that is inverted has.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn silence(&self, limit: Duration) {
        loop {
            let quiet = timeout(limit, self.news.notified()).await.is_err();
            let [sent, _] = self.lock().octets();
            if quiet && self.flip.is_some_and(|flip| flip.at() < sent) {
                return;
            }
        }
    }

    /// What arrives in place of `octets`, which are sent next, if one of them is inverted.
    pub(super) fn flipped(&self, octets: &[u8]) -> Option<Vec<u8>> {
        let [sent, _] = self.lock().octets();
        self.flip?.applied(sent, octets)
    }

    pub(super) fn crossed(&self, direction: Direction, octets: &[u8]) {
        let mut heard = self.lock();
        let Heard { partial, told, .. } = &mut *heard;
        let ([sent, received], [sent_told, received_told]) = (partial, told);
        let (partial, told) = match direction {
            Direction::ToBroker => (sent, sent_told),
            Direction::FromBroker => (received, received_told),
        };
        partial.extend_from_slice(octets);
        while let Some(octets) = next_unit(partial) {
            let unit = Unit {
                name: self.name,
                direction,
                start: *told,
                octets,
            };
            *told += unit.octets.len() as u64;
            self.print(&unit);
            self.script.said(unit);
        }
        self.news.notify_one();
    }

    pub(super) fn hung_up(&self) {
        self.lock().hung_up = true;
        self.news.notify_one();
        if self.flip.is_some() {
            let (style, arrow) = (self.style, Direction::FromBroker.arrow());
            let who = format_args!("{style}{:<6} {arrow}{style:#}", self.name);
            say(format_args!("  {who}             hangs up"));
        }
    }

    fn print(&self, unit: &Unit) {
        let line = describe(&unit.octets);
        let (style, dim, bold) = (self.style, Style::new().dimmed(), Style::new().bold());
        let Line {
            lane, name, says, ..
        } = &line;
        let said = if line.is_content {
            format!("  {name:<6}  {says}")
        } else {
            format!("{bold}{name}{bold:#}  {says}")
        };
        let arrow = unit.direction.arrow();
        say(format_args!(
            "  {style}{:<6} {arrow}{style:#}  {dim}{lane:<9}{dim:#}  {}",
            self.name,
            said.trim_end()
        ));
        let flip = self.flip.filter(|flip| flip.is_in(unit));
        let octets = match flip {
            Some(flip) => flip.arrives(unit),
            None => unit.octets.clone(),
        };
        if let Some(mark) = flip.and_then(|flip| flip.mark(unit)) {
            let red = AnsiColor::Red.on_default().bold();
            say(format_args!("         {red}✗ {mark}{red:#}"));
        }
        if self.script.hex {
            // The demo's own guest/guest are no secret.
            for (row, text) in annotate(octets, Redact::Nothing).rows() {
                let here = flip.is_some_and(|flip| flip.is_at(unit, &row));
                let style = if here {
                    AnsiColor::Red.on_default()
                } else {
                    dim
                };
                let pointer = if here { "✗" } else { " " };
                say(format_args!("{style}         {pointer} {text}{style:#}"));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// How many there were, sent and received.
    fn octets(&self) -> [u64; 2] {
        let ([sent, received], [sent_told, received_told]) = (&self.partial, self.told);
        [
            sent_told + sent.len() as u64,
            received_told + received.len() as u64,
        ]
    }
}
