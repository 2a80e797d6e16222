//! # Blocking: a broker that is short of something tells publishers to wait
//!
//! ```text
//! client ── basic.publish ─────▶ broker   short of memory: from here on it reads nothing more of this socket
//!        ◀─ connection.blocked ──         and goes on sending, heartbeats too (BLOCK-2)
//!        ◀─ connection.unblocked ─        reads again, where it stopped
//! ```
//!
//! An extension, and nobody answers. A client that did not announce the capability `connection.blocked` is not told and
//! waits all the same: what holds it back is that its socket is not read, and [`watch`](Connection::watch) keeps it
//! from being taken for dead.
//!
//! Read next: [`error`](crate::protocol::error). Explained in `docs/17-flow-control.md`.

use super::{Connection, Stage};
use crate::codec::{ChannelId, ConnectionBlocked, ConnectionUnblocked, ShortString};

impl Connection {
    /// Says `connection.blocked` with a reason, or `connection.unblocked`: for a broker. A client that did not announce
    /// the capability is told nothing. BLOCK-1, CONN-8
    pub fn announce(&mut self, blocked: Option<ShortString>) {
        if !matches!(self.stage, Stage::Open) || !self.hears_of_blocking {
            return;
        }
        let method = match blocked {
            Some(reason) => ConnectionBlocked { reason }.into(),
            None => ConnectionUnblocked {}.into(),
        };
        self.say(ChannelId::CONTROL, &method);
    }
}
