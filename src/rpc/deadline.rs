//! # Deadlines: until when somebody waits
//!
//! ```text
//!                 says                       who reads it          what it leaves out
//! expiration      "5000": 5 s, from when?    broker, then server   the time in the queue, at the server
//! rpc-deadline    1797552005000: then        server                by how much two clocks differ
//! ```
//!
//! A request says it twice, since neither way is enough. `expiration` is a *span*, milliseconds as text (RPC-10): the
//! broker drops the request when it is over, and a server counts it anew from the request's arrival. The header
//! `rpc-deadline` is a *moment*, milliseconds since 1970. A server takes whichever comes first. `docs/rpc.md` has what
//! clocks and queue heads do to this.
//!
//! Read next: [`error`](super::error). Explained in `docs/16-three-timeouts.md`.

use std::{
    fmt,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::{
    codec::{FieldTable, Properties, ShortString},
    short,
};

/// The header with the moment after which nobody waits: milliseconds since 1970-01-01 UTC, as a signed 64-bit integer
/// (`l`).
pub const HEADER: &str = "rpc-deadline";

/// The time of day, as the time since 1970-01-01 UTC.
pub type Clock = fn() -> Duration;

/// That of this machine.
pub fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The moment after which nobody waits for the result any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// Who set a deadline, and so by whose clock it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetBy {
    /// The caller's span, counted here since the request arrived.
    Expiration,
    /// The caller's clock, compared with ours.
    Header,
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expiration => "our clock since it arrived (expiration)",
            Self::Header => "the caller's clock beside ours (rpc-deadline)",
        })
    }
}

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Self {
        Self::since(Instant::now(), time)
    }

    /// So long from a moment.
    pub(super) fn since(moment: Instant, time: Duration) -> Self {
        let ages = moment + Duration::from_hours(24 * 365);
        Self(moment.checked_add(time).unwrap_or(ages))
    }

    /// Whether it has passed. Long work asks this now and then, and stops.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// The time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The time since it has passed; zero until then.
    pub(super) fn overdue(self) -> Duration {
        Instant::now().saturating_duration_since(self.0)
    }

    pub(super) fn instant(self) -> Instant {
        self.0
    }

    /// Reads it from a request that arrives now: whichever comes first, if the caller says when.
    pub(super) fn read(properties: &Properties, clock: Clock) -> Option<(Self, SetBy)> {
        let arrived = Instant::now();
        let span = span(properties).map(|span| (Self::since(arrived, span), SetBy::Expiration));
        let moment =
            moment(properties).map(|moment| (Self::at(moment, clock(), arrived), SetBy::Header));
        [span, moment]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// A moment of the clock that reads `reading` now. What is too long ago to be told is over now.
    fn at(moment: Duration, reading: Duration, now: Instant) -> Self {
        if moment >= reading {
            return Self::since(now, moment.saturating_sub(reading));
        }
        let late = reading.saturating_sub(moment);
        Self(now.checked_sub(late).unwrap_or(now))
    }
}

/// Writes into a request how long its caller will wait from now on. What an earlier attempt wrote is replaced.
pub(super) fn put(properties: &mut Properties, left: Duration, clock: Clock) {
    properties.expiration = Some(expiration(left));
    let moment = clock().saturating_add(left).as_millis();
    let moment = i64::try_from(moment).unwrap_or(i64::MAX);
    let room_for_one = || FieldTable(Vec::with_capacity(1));
    let headers = properties.headers.get_or_insert_with(room_for_one);
    headers.0.retain(|(name, _)| *name != HEADER);
    headers.insert(short!("rpc-deadline"), moment);
}

/// The longest `expiration` in milliseconds, ten years: RabbitMQ answers a longer one with 406, which would end every
/// call on the channel.
const LONGEST: u64 = 315_360_000_000;

/// A span as `expiration` has it: whole milliseconds, rounded up, so that it is never 0 by accident.
fn expiration(limit: Duration) -> ShortString {
    let begun = u128::from(!limit.subsec_nanos().is_multiple_of(1_000_000));
    let milliseconds = u64::try_from(limit.as_millis() + begun).unwrap_or(LONGEST);
    decimal(milliseconds.min(LONGEST))
}

/// A number in digits, without an allocation for each call.
fn decimal(number: u64) -> ShortString {
    let mut text = [0; 20]; // as many as the largest has
    let mut room = text.as_mut_slice();
    let written = write!(room, "{number}");
    debug_assert!(written.is_ok());
    let left = room.len();
    let digits = text.get(..text.len() - left).unwrap_or_default();
    ShortString::try_from(digits).unwrap_or_default()
}

/// What `expiration` says, if it says something that can be understood. PROP-13
///
/// 0 is "to a consumer at once, or to nobody": the broker has seen to it, and it says nothing of how long somebody waits.
fn span(properties: &Properties) -> Option<Duration> {
    let text = properties.expiration.as_ref()?.as_str().ok()?;
    let milliseconds = text.parse().ok().filter(|milliseconds| *milliseconds > 0);
    milliseconds.map(Duration::from_millis)
}

/// What the header says: an integer of any width, since not every language writes 64 bits. TABLE-15
fn moment(properties: &Properties) -> Option<Duration> {
    let header = properties.headers.as_ref()?.get(HEADER)?;
    let milliseconds = header.as_integer()?.max(0);
    Some(Duration::from_millis(milliseconds.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Clock = || Duration::from_secs(1000);

    fn properties(expiration: Option<&'static str>, header: Option<i64>) -> Properties {
        let mut headers = FieldTable::EMPTY;
        if let Some(moment) = header {
            headers.insert(ShortString::literal(HEADER), moment);
        }
        Properties {
            expiration: expiration.map(ShortString::literal),
            headers: Some(headers),
            ..Default::default()
        }
    }

    fn read(properties: &Properties) -> Option<(Deadline, SetBy)> {
        Deadline::read(properties, NOON)
    }

    #[test]
    fn a_deadline_travels_as_a_span_and_as_a_moment() {
        // RPC-10, PROP-13
        let mut sent = Properties::default();
        put(&mut sent, Duration::from_secs(5), NOON);
        assert_eq!(sent, properties(Some("5000"), Some(1_005_000)));
        put(&mut sent, Duration::from_nanos(1), NOON);
        assert_eq!(sent, properties(Some("1"), Some(1_000_000)));
        put(&mut sent, Duration::MAX, NOON);
        assert_eq!(sent, properties(Some("315360000000"), Some(i64::MAX)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_the_two_counts() {
        // RPC-10
        let cases = [
            (Some("5000"), None, Some((5, SetBy::Expiration))),
            (None, Some(1_003_000), Some((3, SetBy::Header))),
            (Some("5000"), Some(1_003_000), Some((3, SetBy::Header))),
            (Some("5000"), Some(1_009_000), Some((5, SetBy::Expiration))),
            (Some("soon"), None, None),
            (None, None, None),
        ];
        for (span, moment, expected) in cases {
            let found = read(&properties(span, moment));
            let left = found.map(|(deadline, by)| (deadline.remaining().as_secs(), by));
            assert_eq!(left, expected, "{span:?} {moment:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_has_passed_says_by_how_much() {
        tokio::time::advance(Duration::from_mins(1)).await;
        let (late, by) = read(&properties(Some("5000"), Some(990_000))).unwrap();
        assert_eq!((late.overdue().as_secs(), by), (10, SetBy::Header));
        for nonsense in [i64::MIN, 0, -1] {
            let (late, _) = read(&properties(None, Some(nonsense))).unwrap();
            assert!(late.is_over());
        }
        let (never, _) = read(&properties(None, Some(i64::MAX))).unwrap();
        assert!(!never.is_over());
    }
}
