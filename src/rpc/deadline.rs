//! Until when somebody waits.
//!
//! A request carries its deadline twice. `expiration`, the time left in milliseconds and as text, is for the broker,
//! which drops the request when it reaches the head of its queue too late (RPC-10). The header [`HEADER`], a moment by
//! the caller's clock, is for the server, which cannot know how long the request lay in the queue.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::{
    codec::{Properties, ShortString},
    short,
};

/// The header with the absolute deadline: milliseconds since 1970-01-01 UTC, as a signed 64-bit integer (`l`).
pub const HEADER: &str = "rpc-deadline";

/// The moment after which nobody waits for the result any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self(
            now.checked_add(time)
                .unwrap_or(now + Duration::from_hours(24 * 365)),
        )
    }

    /// Whether it has passed. Long work asks this now and then, and stops.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// The time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(super) fn instant(self) -> Instant {
        self.0
    }
}

/// Writes into a request how long its caller will wait from now on.
pub(super) fn put(properties: &mut Properties, left: Duration, clock: Clock) {
    properties.expiration = Some(expiration(left));
    let moment = clock().saturating_add(left).as_millis();
    let moment = i64::try_from(moment).unwrap_or(i64::MAX);
    let headers = properties.headers.get_or_insert_default();
    headers.0.retain(|(name, _)| *name != HEADER);
    headers.insert(short!("rpc-deadline"), moment);
}

/// The time of day, as the time since 1970-01-01 UTC.
pub type Clock = fn() -> Duration;

/// That of this machine.
pub fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A time limit as `expiration` has it: whole milliseconds, rounded up, so that it is never 0 by accident.
pub(super) fn expiration(limit: Duration) -> ShortString {
    let milliseconds = limit.as_nanos().div_ceil(1_000_000);
    ShortString::truncated(&milliseconds.to_string())
}

/// The time limit of a request, if it has one.
pub(super) fn time_limit(properties: &Properties) -> Option<Duration> {
    let text = properties.expiration.as_ref()?.as_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_travels_as_milliseconds() {
        // RPC-10, PROP-13
        assert_eq!(expiration(Duration::from_secs(5)), "5000");
        assert_eq!(expiration(Duration::from_nanos(1)), "1");
        let properties = Properties {
            expiration: Some(expiration(Duration::from_secs(5))),
            ..Default::default()
        };
        assert_eq!(time_limit(&properties), Some(Duration::from_secs(5)));
        assert_eq!(time_limit(&Properties::default()), None);
    }
}
