//! # The ledger: what was handed out and not yet settled
//!
//! ```text
//! deliver 1  deliver 2  deliver 3  deliver 4       outstanding: 1 2 3 4
//! ack 2                                            outstanding: 1   3 4
//! ack 3 multiple                                   outstanding:       4    "3 and all before it"
//! ack 0 multiple                                   outstanding:            "all so far"
//! ack 2                                            unknown delivery tag 2: 406
//! ```
//!
//! Tags are counted per channel from 1 and nothing on the wire repeats the count: both sides keep it (ACK-1). The
//! same book serves twice: a broker writes down deliveries until a client acknowledges them, and a client in confirm
//! mode writes down publishes until the broker does (CONF-2, CONF-3).
//!
//! Read next: `heartbeat`.

use std::collections::{VecDeque, vec_deque::Drain};

use crate::codec::DeliveryTag;

/// Entries under increasing tags, settled one by one or up to a tag.
#[derive(Debug)]
pub struct Ledger<T> {
    last: DeliveryTag,
    outstanding: VecDeque<(DeliveryTag, T)>,
}

/// The tag was never handed out, or was settled before. ACK-3
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTag(pub DeliveryTag);

impl<T> Ledger<T> {
    /// An empty book; the first tag is 1.
    pub const fn new() -> Self {
        Self {
            last: DeliveryTag(0),
            outstanding: VecDeque::new(),
        }
    }

    /// The tag for something that needs no settling, as a no-ack delivery: it counts all the same. CONS-7
    pub fn skip(&mut self) -> DeliveryTag {
        self.last.0 += 1;
        self.last
    }

    /// Writes an entry down under the next tag.
    pub fn push(&mut self, entry: T) -> DeliveryTag {
        let tag = self.skip();
        self.outstanding.push_back((tag, entry));
        tag
    }

    /// Takes out the entry under `tag`, and with `multiple` all before it; tag 0 with `multiple` means all there are,
    /// and that may be none (ACK-4, ACK-5).
    ///
    /// # Errors
    /// [`UnknownTag`] when nothing is outstanding under `tag`, also with `multiple`, and for tag 0 without (ACK-6).
    pub fn settle(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
    ) -> Result<Drain<'_, (DeliveryTag, T)>, UnknownTag> {
        if multiple && tag == DeliveryTag(0) {
            return Ok(self.outstanding.drain(..));
        }
        let at = self
            .outstanding
            .binary_search_by_key(&tag, |(tag, _)| *tag)
            .map_err(|_| UnknownTag(tag))?;
        Ok(self.outstanding.drain(if multiple { 0 } else { at }..=at))
    }

    /// Takes out every entry up to `tag`, whether or not `tag` itself is still outstanding: what a client makes of a
    /// confirm, whose tags come in any order and in groups (CONF-4).
    pub fn settle_through(&mut self, tag: DeliveryTag) -> Drain<'_, (DeliveryTag, T)> {
        let end = self
            .outstanding
            .partition_point(|(outstanding, _)| *outstanding <= tag);
        self.outstanding.drain(..end)
    }

    /// Takes out everything, oldest first.
    pub fn drain(&mut self) -> Drain<'_, (DeliveryTag, T)> {
        self.outstanding.drain(..)
    }

    /// Gives back room that is mostly empty: a ledger that was long once would stay large. SEC-8
    pub fn shrink(&mut self) {
        if self.outstanding.len() < self.outstanding.capacity() / 4 {
            self.outstanding.shrink_to(2 * self.outstanding.len());
        }
    }

    /// What is outstanding, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &(DeliveryTag, T)> {
        self.outstanding.iter()
    }

    /// How many entries are outstanding.
    pub fn len(&self) -> usize {
        self.outstanding.len()
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Ledger<char> {
        let mut ledger = Ledger::new();
        "abcd".chars().for_each(|entry| _ = ledger.push(entry));
        ledger
    }

    fn settled(ledger: &mut Ledger<char>, tag: u64, multiple: bool) -> Result<String, UnknownTag> {
        Ok(ledger
            .settle(DeliveryTag(tag), multiple)?
            .map(|(_, entry)| entry)
            .collect())
    }

    #[test]
    fn one_or_all_up_to_a_tag() {
        // ACK-1, ACK-3, ACK-4
        let mut ledger = four();
        assert_eq!(settled(&mut ledger, 2, false).unwrap(), "b");
        assert_eq!(
            settled(&mut ledger, 2, true),
            Err(UnknownTag(DeliveryTag(2))),
            "though 1 is open"
        );
        assert_eq!(settled(&mut ledger, 3, true).unwrap(), "ac");
        assert_eq!(
            settled(&mut ledger, 9, false),
            Err(UnknownTag(DeliveryTag(9)))
        );
    }

    #[test]
    fn tag_zero_means_all_so_far() {
        // ACK-5, ACK-6
        let mut ledger = four();
        assert_eq!(
            settled(&mut ledger, 0, false),
            Err(UnknownTag(DeliveryTag(0)))
        );
        assert_eq!(settled(&mut ledger, 0, true).unwrap(), "abcd");
        assert_eq!(
            settled(&mut ledger, 0, true).unwrap(),
            "",
            "none is no error"
        );
    }

    #[test]
    fn a_no_ack_delivery_counts_and_cannot_be_acknowledged() {
        // CONS-7
        let mut ledger = Ledger::new();
        assert_eq!(ledger.skip(), DeliveryTag(1));
        assert_eq!(ledger.push('a'), DeliveryTag(2));
        assert!(ledger.settle(DeliveryTag(1), false).is_err());
    }

    #[test]
    fn what_is_outstanding_is_seen_and_taken_out_in_order() {
        // ACK-1: and the count goes on.
        let mut ledger = four();
        assert_eq!(settled(&mut ledger, 2, false).unwrap(), "b");
        let seen: Vec<_> = ledger.iter().map(|(tag, entry)| (tag.0, *entry)).collect();
        assert_eq!(seen, [(1, 'a'), (3, 'c'), (4, 'd')]);
        assert_eq!((ledger.len(), ledger.is_empty()), (3, false));
        let all: String = ledger.drain().map(|(_, entry)| entry).collect();
        assert_eq!(
            (all.as_str(), ledger.len(), ledger.is_empty()),
            ("acd", 0, true)
        );
        assert_eq!(ledger.push('e'), DeliveryTag(5));
        assert_eq!(Ledger::<char>::default().push('a'), DeliveryTag(1));
    }

    #[test]
    fn room_that_is_mostly_empty_is_given_back() {
        // SEC-8: what is used to a quarter stays, what is used less is cut to twice of what is used.
        let mut ledger: Ledger<u8> = Ledger::new();
        ledger.outstanding.reserve_exact(64);
        (0..64).for_each(|entry| _ = ledger.push(entry));
        let full = ledger.outstanding.capacity();
        for (tag, capacity) in [(48, full), (56, 16), (64, 0)] {
            ledger.settle_through(DeliveryTag(tag));
            ledger.shrink();
            assert_eq!(ledger.outstanding.capacity(), capacity, "{tag}");
        }
    }

    #[test]
    fn confirms_come_in_any_order_and_in_groups() {
        // CONF-4
        let mut ledger = four();
        assert_eq!(settled(&mut ledger, 3, false).unwrap(), "c");
        assert_eq!(
            ledger
                .settle_through(DeliveryTag(3))
                .map(|(_, entry)| entry)
                .collect::<String>(),
            "ab"
        );
        assert_eq!(ledger.len(), 1);
    }
}
