//! # Heartbeats: two deadlines and a question
//!
//! ```text
//!  sent ──── h/2 ────┐ nothing sent: send the 8 octets of a heartbeat (HB-1)
//! heard ──────────────── 2h ────┐ nothing heard, not even one octet: the peer is dead (HB-3, HB-4)
//! ```
//!
//! Any octet is a sign of life, so a busy line carries no heartbeats at all. Nobody answers one (HB-7). `h` is the
//! interval that the tuning agreed on.
//!
//! Read next: [`connection`](super::connection), where all the parts meet. Explained in `docs/10-heartbeats.md`.

use std::time::{Duration, Instant};

/// What a look at the clock asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing yet.
    Quiet,
    /// Send a heartbeat frame.
    Send,
    /// Nothing was heard for this long.
    PeerDead(Duration),
}

/// The two clocks of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Option<Duration>,
    sent: Instant,
    heard: Instant,
    watching: bool,
}

impl Heartbeat {
    pub(crate) const fn off(now: Instant) -> Self {
        Self {
            interval: None,
            sent: now,
            heard: now,
            watching: true,
        }
    }

    /// Both clocks start with tune-ok. HB-6
    pub(crate) const fn start(&mut self, interval: Option<Duration>, now: Instant) {
        self.interval = interval;
        (self.sent, self.heard) = (now, now);
    }

    pub(crate) const fn on_sent(&mut self, now: Instant) {
        self.sent = now;
    }

    pub(crate) const fn on_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whoever stops reading hears nothing, which proves nothing about the peer: the watch pauses meanwhile.
    pub(crate) fn watch(&mut self, watching: bool, now: Instant) {
        if watching && !self.watching {
            self.heard = now;
        }
        self.watching = watching;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        let send = self.sent + interval / 2;
        let dead = self.heard + 2 * interval;
        Some(if self.watching { send.min(dead) } else { send })
    }

    pub(crate) fn look(&self, now: Instant) -> Beat {
        let Some(interval) = self.interval else {
            return Beat::Quiet;
        };
        if self.watching && now >= self.heard + 2 * interval {
            Beat::PeerDead(2 * interval)
        } else if now >= self.sent + interval / 2 {
            Beat::Send
        } else {
            Beat::Quiet
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_interval_of_silence_sends_and_two_intervals_kill() {
        // HB-1, HB-3, HB-4
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut heart = Heartbeat::off(start);
        assert_eq!(heart.deadline(), None, "h = 0 disables everything");
        heart.start(Some(2 * second), start);
        assert_eq!(heart.look(start + second / 2), Beat::Quiet);
        assert_eq!(heart.look(start + second), Beat::Send);
        heart.on_sent(start + second);
        assert_eq!(heart.deadline(), Some(start + 2 * second));
        heart.on_heard(start + 3 * second);
        assert_eq!(heart.look(start + 5 * second), Beat::Send);
        assert_eq!(heart.look(start + 7 * second), Beat::PeerDead(4 * second));
    }

    #[test]
    fn a_peer_is_not_dead_because_we_do_not_listen() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut heart = Heartbeat::off(start);
        heart.start(Some(second), start);
        heart.watch(false, start);
        assert_eq!(heart.look(start + 60 * second), Beat::Send);
        assert_eq!(heart.deadline(), Some(start + second / 2));
        heart.watch(true, start + 60 * second);
        heart.on_sent(start + 60 * second);
        assert_eq!(heart.look(start + 60 * second), Beat::Quiet);
        heart.watch(true, start + 61 * second);
        let dead = Beat::PeerDead(2 * second);
        assert_eq!(
            heart.look(start + 62 * second),
            dead,
            "to watch on is not to hear"
        );
    }
}
