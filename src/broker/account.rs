//! # Accounts: what is kept takes memory, and there is only so much
//!
//! ```text
//!  publish a message ─┐                            ┌─ acknowledged, expired, purged
//!  declare, bind     ─┼─► Account ─► Share ─► kept ┼─ deleted, unbound
//!  consume           ─┘      │                     └─ cancelled, or its connection is gone
//!                            ├─► messages take too much: whoever publishes next is blocked
//!                            └─► the others take too much: 506, and nothing is kept
//! ```
//!
//! A peer that has logged in may ask a broker to keep things: messages, and also queues, exchanges, bindings and
//! consumers with their tables of arguments. All of it is paid for, in octets of *memory*: an entry of a table has two
//! octets on the wire and takes dozens here, so a limit on what came off the wire would be none. SEC-8
//!
//! There are two accounts, one for messages and one for the rest. Whoever comes to take messages away, because there
//! are too many of them, has to be able to declare and to consume.
//!
//! Read next: [`names`](super::names). Explained in `docs/20-hostile-peers.md`; `docs/limits.md` has the numbers.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::fault::Fault;
use crate::codec::{FieldTable, ReplyCode, ShortString};

/// What a queue takes, the largest of the four, with its place in a map that may have room for twice as many and is
/// copied when it grows.
const ENTRY: usize = 1536;

/// How much may be kept, and how much is.
#[derive(Debug)]
pub struct Account {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// So many octets of the account, given back on drop: a message leaves a queue in a dozen ways, and none of them can
/// forget it.
#[derive(Debug)]
pub struct Share {
    octets: usize,
    account: Arc<AtomicUsize>,
}

impl Account {
    /// Nothing is kept yet, and `limit` octets of memory are enough.
    pub fn new(limit: usize) -> Self {
        let taken = Arc::default();
        Self { taken, limit }
    }

    /// Takes so many octets of memory for a message, of which there is always one that is too many: the next one waits
    /// (BLOCK-1).
    pub fn take(&self, octets: usize) -> Share {
        self.taken.fetch_add(octets, Ordering::Relaxed);
        let account = Arc::clone(&self.taken);
        Share { octets, account }
    }

    /// The same for a dead letter, which cannot be made to wait: as long as there is less than a quarter too much.
    pub fn take_spare(&self, octets: usize) -> Option<Share> {
        let most = self.limit.saturating_add(self.limit / 4);
        (self.taken().saturating_add(octets) <= most).then(|| self.take(octets))
    }

    /// Whether there is too much. Once there was, an eighth less than the limit is: at one and the same limit, each
    /// message that comes or goes would block and unblock everybody.
    pub fn is_low(&self, was_low: bool) -> bool {
        let limit = self.limit;
        self.taken() > if was_low { limit - limit / 8 } else { limit }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes what a queue, an exchange, a binding or a consumer with these names and arguments takes.
    ///
    /// # Errors
    /// `RESOURCE_ERROR`, which closes the connection, when there is no room for it.
    pub fn take_entry(
        &self,
        names: &[&ShortString],
        arguments: &FieldTable,
    ) -> Result<Share, Fault> {
        // A name stands in several places: in the map, in the thing itself, and with whoever uses it.
        let names: usize = names.iter().map(|name| 3 * name.memory()).sum();
        let (octets, limit) = (ENTRY + names + arguments.memory(), self.limit);
        if self.taken().saturating_add(octets) > limit {
            let text =
                format!("no room in this vhost, which may keep {limit} octets beside messages");
            return Err(Fault::new(ReplyCode::RESOURCE_ERROR, text));
        }
        Ok(self.take(octets))
    }
}

/// Gives back room that is mostly empty. A map keeps what it once needed, also when all that was in it is gone and the
/// account was paid back.
pub(super) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(2 * map.len());
    }
}

#[cfg(test)]
impl Share {
    /// For tests of what is kept and not of what it costs.
    pub(super) fn of_nothing() -> Self {
        let (octets, account) = (0, Arc::default());
        Self { octets, account }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_too_many_is_taken_and_a_dead_letter_up_to_a_quarter_more() {
        // SEC-8
        let account = Account::new(800);
        let enough = account.take(800);
        assert!(!account.is_low(false));
        let one = account.take(1);
        assert!(account.is_low(false));
        assert!(account.take_spare(200).is_none());
        let dead = account.take_spare(199).unwrap();
        drop((enough, dead));
        assert_eq!(account.taken(), 1);
        drop(one);
    }

    #[test]
    fn what_was_too_much_is_enough_an_eighth_below() {
        // BLOCK-1
        let account = Account::new(800);
        let _most = account.take(700);
        assert!(!account.is_low(true));
        let _one = account.take(1);
        assert!(account.is_low(true) && !account.is_low(false));
    }
}
