//! # Flipping: one octet that is inverted on the way, and what comes of it
//!
//! ```text
//! client ── .. 00 0a 00 00 .. ──▶ tap ── .. 00 f5 00 00 .. ──▶ broker ── 501, 540, 404, silence, or nothing at all ──▶
//! ```
//!
//! To break something is the shortest way to learn what it is for. A few octets may be anything, as those of a body.
//! Most end in a close that names the mistake. And some are answered by nobody: a size that became larger makes the
//! broker wait for the rest of a frame that has been sent already.
//!
//! Read next: [`illustrated`](super::illustrated). Explained in `docs/09-errors-and-closing.md`.

use std::{ops::Range, time::Duration};

use bytes::Bytes;

use super::{
    Failure, Status,
    conversation::{Direction, Speaker, Unit},
};
use crate::codec::{
    FrameDecoder, Method, PROTOCOL_HEADER, Payload, Redact, annotate, describe, span::Span,
};

/// How long nobody may say anything: longer than a call waits for its reply, shorter than anything else takes that
/// ends by itself, as a handshake (SEC-2) or a heartbeat.
pub const SILENCE: Duration = Duration::from_secs(8);

/// Which octet it is, from 0, of all that a program sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip(u64);

impl Flip {
    /// All bits of this octet are inverted.
    pub const fn of(octet: u64) -> Self {
        Self(octet)
    }

    /// Which one it is.
    pub const fn at(self) -> u64 {
        self.0
    }

    /// What arrives in place of `octets`, of which `before` others were sent; nothing if it is none of them.
    pub fn applied(self, before: u64, octets: &[u8]) -> Option<Vec<u8>> {
        let at = usize::try_from(self.0.checked_sub(before)?).ok()?;
        let mut octets = octets.to_vec();
        *octets.get_mut(at)? ^= 0xFF;
        Some(octets)
    }

    /// Whether the octet is one of this unit.
    pub fn is_in(self, unit: &Unit) -> bool {
        unit.direction == Direction::ToBroker && self.inside(unit).is_some()
    }

    /// Whether it stands in these octets of the unit.
    pub fn is_at(self, unit: &Unit, octets: &Range<usize>) -> bool {
        self.inside(unit).is_some_and(|at| octets.contains(&at))
    }

    /// What the broker receives.
    pub fn arrives(self, unit: &Unit) -> Bytes {
        let flipped = self.applied(unit.start, &unit.octets);
        flipped.map_or_else(|| unit.octets.clone(), Bytes::from)
    }

    /// Which octet of which field it is, and what becomes of it.
    pub fn mark(self, unit: &Unit) -> Option<String> {
        let at = self.inside(unit)?;
        let was = *unit.octets.get(at)?;
        let Span { label, range, .. } = annotate(unit.octets.clone(), Redact::Nothing)
            .spans
            .into_iter()
            .find(|span| span.range.contains(&at))?;
        let which = match range.len() {
            1 => format!("{label}, which is one octet"),
            octets => format!(
                "{label}, the {} of its {octets} octets",
                nth(at - range.start)
            ),
        };
        let octet = self.0;
        Some(format!(
            "octet {octet}: {which}, {was:02x} comes as {:02x}",
            !was
        ))
    }

    fn inside(self, unit: &Unit) -> Option<usize> {
        let at = usize::try_from(self.0.checked_sub(unit.start)?).ok()?;
        (at < unit.octets.len()).then_some(at)
    }

    /// What came of it, in one sentence, and how the program ends: as a client ends to which that happens.
    ///
    /// `ended` is how the conversation of `caller` ended, with what it has to show; nothing, if nobody said anything any
    /// more.
    ///
    /// # Errors
    /// The exit status, with no sentence of its own.
    pub fn what_came_of_it(
        self,
        caller: &Speaker,
        ended: Option<Result<String, Failure>>,
    ) -> (String, Result<(), Failure>) {
        let status = |status| Err(Failure::new(status, ""));
        let units = caller.units();
        let Some(unit) = units.iter().find(|unit| self.is_in(unit)) else {
            let sent = units
                .iter()
                .filter(|unit| unit.direction == Direction::ToBroker);
            let sent: usize = sent.map(|unit| unit.octets.len()).sum();
            let text = format!(
                "There is no octet {}: the caller sent {sent}, which are 0 to {}.",
                self.0,
                sent.saturating_sub(1)
            );
            return (text, status(Status::Usage));
        };
        let received = units
            .iter()
            .filter(|unit| unit.direction == Direction::FromBroker);
        let answer = received.filter_map(|unit| refusal(&unit.octets)).last();
        let hung_up = caller
            .is_hung_up()
            .then(|| "hung up without a word".to_owned());
        let broker = answer
            .or(hung_up)
            .map(|did| format!("The broker {}.", did.trim_end_matches('.')));
        let (came, end) = match ended {
            None => {
                let text = format!(
                    "Then nobody said anything for {} s: each waits for the other.",
                    SILENCE.as_secs()
                );
                (text, status(Status::Timeout))
            }
            Some(Ok(reply)) => match &broker {
                Some(did) => (format!("{did} The reply had come before: {reply}."), Ok(())),
                None => (format!("Nothing came of it: {reply}."), Ok(())),
            },
            // A client believes that its login was refused; here it is known what happened.
            Some(Err(failure)) if failure.status == Status::Refused && caller.is_hung_up() => {
                (broker.unwrap_or(failure.sentence), status(Status::Lost))
            }
            Some(Err(failure)) => (broker.unwrap_or(failure.sentence), status(failure.status)),
        };
        let name = match &*describe(&unit.octets).name {
            "header" => "a content header".to_owned(),
            "body" => "a body".to_owned(),
            "protocol header" => "the protocol header".to_owned(),
            method => method.to_owned(),
        };
        (format!("Octet {} belongs to {name}. {came}", self.0), end)
    }
}

/// How a broker says no, if this is one of the ways.
fn refusal(octets: &Bytes) -> Option<String> {
    if **octets == PROTOCOL_HEADER {
        return Some(
            "answered with the protocol header that it would have liked, and hung up (HDR-3)"
                .into(),
        );
    }
    let frame = FrameDecoder::new()
        .decode(&mut octets.as_ref().into())
        .ok()??;
    match frame.payload {
        Payload::Method(Method::ConnectionClose(close)) => Some(format!(
            "closed the connection with {}: {}",
            close.reply_code, close.reply_text
        )),
        Payload::Method(Method::ChannelClose(close)) => Some(format!(
            "closed the channel with {}: {}",
            close.reply_code, close.reply_text
        )),
        _ => None,
    }
}

/// The ordinal number of what is at this index.
fn nth(index: usize) -> String {
    let number = index + 1;
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
