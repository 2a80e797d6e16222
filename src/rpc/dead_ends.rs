//! # Dead ends: reply addresses that cost a server its connection
//!
//! ```text
//! replies to a and b ─▶ 541: the connection is lost, and both are suspects
//! reply to a, alone  ─▶ confirmed: no suspect any more
//! reply to b, alone  ─▶ 541: a dead end for 30 s, and its requests are rejected
//! ```
//!
//! RabbitMQ 3.10 ends the connection of whoever publishes to a direct reply-to name of a node that is gone, with 541.
//! So each request of a caller whose node has stopped, or of a stranger who made up such a name (RPC-19), would cost a
//! server its connection, come again, and cost the next server the same. Hence a suspect is answered while no other
//! reply is on its way. Not for ever: a broker in trouble may end connections like that for reasons of its own.
//!
//! Read next: `drain`. Explained in `docs/rpc.md`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};
use tracing::warn;

use crate::{
    client::Error,
    codec::{ReplyCode, ShortString},
};

/// What the name of every direct reply-to begins with. DRT-3
const DIRECT: &[u8] = b"amq.rabbitmq.reply-to.";

/// How long. It is longer than any pause before the next connection, on which the requests come again.
const REST: Duration = Duration::from_secs(30);

/// How many addresses are remembered. It takes a lost connection to be one of them.
const MEMORY: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct DeadEnds {
    /// Held alone by a reply to a suspect, and together by all others; as long as there is no suspect, by nobody.
    way: RwLock<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Replies to direct names that no confirm has come for, in the order they were sent in.
    on_their_way: BTreeMap<u64, ShortString>,
    sent: u64,
    suspects: HashMap<ShortString, Suspect>,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// It cost a connection while it was alone, at this time.
    dead: Option<Instant>,
}

/// A reply that is on its way.
pub(super) struct OnItsWay<'a> {
    ends: &'a DeadEnds,
    address: &'a ShortString,
    number: u64,
    _way: Way<'a>,
}

enum Way<'a> {
    Free,
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl DeadEnds {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reply to this address would cost the connection.
    pub(super) fn have(&self, address: &ShortString) -> bool {
        let known = self.known();
        let dead = known.suspect(address).and_then(|suspect| suspect.dead);
        dead.is_some_and(|since| since.elapsed() < REST)
    }

    /// A reply is about to be sent. It may have to wait until others have been confirmed.
    ///
    /// # Cancel safety
    /// Cancel safe. What is returned tells of the confirm; dropped before, it says that none has come.
    pub(super) async fn enter<'a>(&'a self, address: &'a ShortString) -> OnItsWay<'a> {
        let (peace, suspect) = {
            let known = self.known();
            (known.suspects.is_empty(), known.suspect(address).is_some())
        };
        let way = if peace {
            Way::Free
        } else if suspect {
            Way::Alone {
                _guard: self.way.write().await,
            }
        } else {
            Way::Shared {
                _guard: self.way.read().await,
            }
        };
        OnItsWay {
            ends: self,
            address,
            number: self.known().send(address),
            _way: way,
        }
    }

    /// The channel of all replies that are on their way is over.
    pub(super) fn lost(&self, cause: &Error) {
        let mut known = self.known();
        let lost: HashSet<_> = mem::take(&mut known.on_their_way).into_values().collect();
        if cause.code() != Some(ReplyCode::INTERNAL_ERROR) {
            return;
        }
        for address in lost {
            let dead = known.suspects.contains_key(&address).then(Instant::now);
            warn!(%address, dead = dead.is_some(), "the connection was lost over a reply");
            known.suspects.insert(address, Suspect { dead });
        }
        if known.suspects.len() > MEMORY {
            known.suspects.clear();
        }
    }
}

impl Known {
    /// Nearly always there is none at all.
    fn suspect(&self, address: &ShortString) -> Option<Suspect> {
        let some = !self.suspects.is_empty();
        some.then(|| self.suspects.get(address).copied()).flatten()
    }

    fn send(&mut self, address: &ShortString) -> u64 {
        self.sent += 1;
        if address.as_bytes().starts_with(DIRECT) {
            self.on_their_way.insert(self.sent, address.clone());
        }
        self.sent
    }
}

impl OnItsWay<'_> {
    /// The broker has taken it, or has refused it and nothing else.
    pub(super) fn settled(self) {
        let mut known = self.ends.known();
        known.on_their_way.remove(&self.number);
        if !known.suspects.is_empty() {
            known.suspects.remove(self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{
        codec::MethodId,
        protocol::{Cause, CloseReason},
        short,
    };

    static GONE: ShortString = ShortString::literal("amq.rabbitmq.reply-to.gone");
    static HERE: ShortString = ShortString::literal("amq.rabbitmq.reply-to.here");

    fn ended(code: ReplyCode) -> Error {
        Error::ConnectionClosed(Cause::ClosedByPeer(CloseReason {
            code,
            text: String::new(),
            method: MethodId::NONE,
        }))
    }

    /// Whether a reply to this address need not wait for others.
    async fn may_go(ends: &DeadEnds, address: &ShortString) -> bool {
        timeout(Duration::from_secs(1), ends.enter(address))
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn two_connections_are_lost_over_an_address_and_no_more() {
        let (ends, lost) = (DeadEnds::default(), ended(ReplyCode::INTERNAL_ERROR));
        let (gone, here) = (ends.enter(&GONE).await, ends.enter(&HERE).await);
        ends.lost(&lost);
        drop((gone, here));
        assert!(!ends.have(&GONE) && !ends.have(&HERE), "it may be either");

        let here = ends.enter(&HERE).await;
        assert!(!may_go(&ends, &GONE).await, "a suspect goes alone");
        here.settled();
        let gone = ends.enter(&GONE).await;
        assert!(!may_go(&ends, &HERE).await, "while it is on its way");
        ends.lost(&lost);
        drop(gone);
        assert!(ends.have(&GONE) && !ends.have(&HERE));
        sleep(REST).await;
        assert!(!ends.have(&GONE), "it may be tried again");
        let _one = ends.enter(&HERE).await;
        assert!(may_go(&ends, &HERE).await, "it was confirmed");
    }

    #[tokio::test(start_paused = true)]
    async fn other_losses_and_other_addresses_say_nothing() {
        let (ends, queue) = (DeadEnds::default(), short!("amq.gen-1"));
        for _ in 0..3 {
            drop(ends.enter(&GONE).await);
            ends.lost(&ended(ReplyCode::CONNECTION_FORCED));
            drop(ends.enter(&queue).await);
            ends.lost(&ended(ReplyCode::INTERNAL_ERROR));
        }
        assert!(!ends.have(&GONE) && ends.known().suspects.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let ends = DeadEnds::default();
        for number in 0..=MEMORY {
            let address = ShortString::truncated(&format!("amq.rabbitmq.reply-to.{number}"));
            for _ in 0..2 {
                drop(ends.enter(&address).await);
                ends.lost(&ended(ReplyCode::INTERNAL_ERROR));
            }
            assert!(ends.have(&address) || number == MEMORY);
        }
        assert!(ends.known().suspects.len() <= MEMORY);
    }
}
