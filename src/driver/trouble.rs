//! # Trouble: what is wrong with writing, and how long we put up with it
//!
//! ```text
//!  a write fails ──────────▶ what is still to be read may say why ── 1 s ──▶ over      HDR-6, CONN-16
//!  a write takes nothing ──▶ the peer may be busy ──────────── patience ──▶ over      SEC-10
//! ```
//!
//! Read next: the client, or the broker.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::time::Instant;

use super::LAST_WORDS;
use crate::protocol::{Cause, Connection};

/// What is wrong, if anything.
#[derive(Default)]
pub(super) struct Trouble {
    /// Nothing can be written any more. What is still to be read may say why.
    broken: Option<(Cause, Instant)>,
    /// Since when the socket has taken nothing.
    stuck: Option<Instant>,
}

impl Trouble {
    /// Whether anything can still be written. Behind a write that failed nothing can: part of a frame is lost, and each
    /// further failure would put the end off.
    pub(super) fn may_write(&self) -> bool {
        self.broken.is_none()
    }

    /// Notes what came of a write.
    pub(super) fn wrote(&mut self, wrote: io::Result<usize>) {
        self.stuck = None;
        let cause = match wrote {
            Ok(1..) => return,
            Ok(0) => io::ErrorKind::WriteZero.to_string(),
            Err(error) => error.to_string(),
        };
        self.broken = Some((Cause::Io(cause), Instant::now() + LAST_WORDS));
    }

    /// Ends the connection if it is time for that, or says when it will be. There is `patience` while something waits.
    pub(super) fn look(
        &mut self,
        core: &mut Connection,
        outbound: &mut BytesMut,
        patience: Option<Duration>,
        now: Instant,
    ) -> Option<Instant> {
        if let Some((cause, until)) = &self.broken {
            outbound.clear();
            if *until <= now {
                core.end(cause.clone());
            }
            return Some(*until);
        }
        let Some(limit) = patience else {
            self.stuck = None;
            return None;
        };
        let until = *self.stuck.get_or_insert(now) + limit;
        if until <= now {
            let silence = limit.as_secs();
            core.end(Cause::Io(format!(
                "the peer has read nothing for {silence} s"
            )));
        }
        Some(until)
    }
}
