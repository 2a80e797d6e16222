//! Until when somebody waits.
//!
//! A request carries its deadline as `expiration`, in milliseconds and as text (RPC-10). The broker drops it when it
//! reaches the head of the queue too late; what is left is counted from arrival, since clocks of two machines differ.

use std::time::Duration;

use tokio::time::Instant;

use crate::codec::{Properties, ShortString};

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
