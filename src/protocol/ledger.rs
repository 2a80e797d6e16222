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
//! Read next: `heartbeat`. Explained in `docs/07-consuming.md`.

use std::collections::VecDeque;

use crate::codec::DeliveryTag;

/// Entries under increasing tags, settled one by one or up to a tag.
#[derive(Debug)]
pub struct Ledger<T> {
    last: DeliveryTag,
    /// Oldest first, with a gap where an entry was settled before an older one: whoever works on many at once settles
    /// them in any order, and to close each gap at once would move all that is behind it. The first is never a gap.
    row: VecDeque<(DeliveryTag, Option<T>)>,
    /// At most as many as there are entries.
    gaps: usize,
}

/// Room for so many entries is kept, however few there are: who settles each at once need not ask for it each time.
const LEAST_KEPT: usize = 16;

/// The tag was never handed out, or was settled before. ACK-3
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTag(pub DeliveryTag);

impl<T> Ledger<T> {
    /// An empty book; the first tag is 1.
    pub const fn new() -> Self {
        Self {
            last: DeliveryTag(0),
            row: VecDeque::new(),
            gaps: 0,
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
        self.row.push_back((tag, Some(entry)));
        tag
    }

    /// Takes out the entry under `tag`, and with `multiple` all before it, oldest first; tag 0 with `multiple` means all
    /// there are, and that may be none (ACK-4, ACK-5).
    ///
    /// # Errors
    /// [`UnknownTag`] when nothing is outstanding under `tag`, also with `multiple`, and for tag 0 without (ACK-6).
    pub fn settle(&mut self, tag: DeliveryTag, multiple: bool) -> Result<Vec<T>, UnknownTag> {
        if multiple && tag == DeliveryTag(0) {
            return Ok(self.drain());
        }
        if !multiple {
            return self.settle_one(tag).map(|one| vec![one]);
        }
        match self.find(tag).and_then(|at| self.row.get(at)) {
            Some((_, Some(_))) => Ok(self.settle_through(tag)),
            _ => Err(UnknownTag(tag)),
        }
    }

    /// Takes out the entry under `tag`.
    ///
    /// # Errors
    /// [`UnknownTag`] when nothing is outstanding under it.
    pub fn settle_one(&mut self, tag: DeliveryTag) -> Result<T, UnknownTag> {
        let place = self.find(tag).and_then(|at| self.row.get_mut(at));
        let one = place.and_then(|(_, entry)| entry.take());
        let one = one.ok_or(UnknownTag(tag))?;
        self.gaps += 1;
        self.close_gaps();
        Ok(one)
    }

    /// Takes out every entry up to `tag`, whether or not `tag` itself is still outstanding: what a client makes of a
    /// confirm, whose tags come in any order and in groups (CONF-4).
    pub fn settle_through(&mut self, tag: DeliveryTag) -> Vec<T> {
        let through = self.row.partition_point(|(first, _)| *first <= tag);
        let mut settled = Vec::with_capacity(through);
        settled.extend(self.row.drain(..through).filter_map(|(_, entry)| entry));
        self.gaps -= through - settled.len();
        self.close_gaps();
        settled
    }

    /// Takes out everything, oldest first.
    pub fn drain(&mut self) -> Vec<T> {
        self.gaps = 0;
        let entries = std::mem::take(&mut self.row).into_iter();
        entries.filter_map(|(_, entry)| entry).collect()
    }

    /// What is outstanding, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (DeliveryTag, &T)> {
        let entries = self.row.iter();
        entries.filter_map(|(tag, entry)| Some((*tag, entry.as_ref()?)))
    }

    /// How many entries are outstanding.
    pub fn len(&self) -> usize {
        self.row.len() - self.gaps
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the entry under `tag` is, or its gap. Most are settled in their turn.
    fn find(&self, tag: DeliveryTag) -> Option<usize> {
        match self.row.front() {
            Some((first, _)) if *first == tag => Some(0),
            _ => self.row.binary_search_by_key(&tag, |(tag, _)| *tag).ok(),
        }
    }

    /// Gaps at the front go at once, all others together once they are more than the entries: so each entry is moved as
    /// often as one is settled, if ever.
    fn close_gaps(&mut self) {
        while self
            .row
            .pop_front_if(|(_, entry)| entry.is_none())
            .is_some()
        {
            self.gaps -= 1;
        }
        if self.gaps > self.len() {
            self.row.retain(|(_, entry)| entry.is_some());
            self.gaps = 0;
        }
        // A ledger that was long once would stay large, and a connection has two thousand of them. SEC-8
        if self.row.capacity() > 2 * LEAST_KEPT && self.row.len() < self.row.capacity() / 4 {
            self.row.shrink_to((2 * self.row.len()).max(LEAST_KEPT));
        }
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
        let settled = ledger.settle(DeliveryTag(tag), multiple)?;
        Ok(settled.into_iter().collect())
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
        let all: String = ledger.drain().into_iter().collect();
        assert_eq!(
            (all.as_str(), ledger.len(), ledger.is_empty()),
            ("acd", 0, true)
        );
        assert_eq!(ledger.push('e'), DeliveryTag(5));
        assert_eq!(Ledger::<char>::default().push('a'), DeliveryTag(1));
    }

    #[test]
    fn entries_settled_in_any_order_leave_no_more_gaps_than_there_are_entries() {
        // ACK-3: the oldest stays for ever, and tens of thousands come and go behind it, newest first.
        let mut ledger = Ledger::new();
        ledger.push(0);
        for round in 1..=100 {
            let tags: Vec<_> = (0..300).map(|_| ledger.push(round)).collect();
            for tag in tags.into_iter().rev() {
                assert_eq!(ledger.settle_one(tag), Ok(round));
                assert_eq!(ledger.settle_one(tag), Err(UnknownTag(tag)));
                assert!(ledger.row.len() <= 2 * ledger.len() + 1, "{ledger:?}");
            }
            assert_eq!(ledger.iter().collect::<Vec<_>>(), [(DeliveryTag(1), &0)]);
        }
        assert_eq!(ledger.settle(DeliveryTag(0), true), Ok(vec![0]));
    }

    #[test]
    fn a_ledger_that_was_long_does_not_stay_large() {
        // SEC-8: settled oldest first, newest first, and all but the last at once.
        const MANY: u64 = 10_000;
        let settle: [fn(&mut Ledger<u64>, u64) -> bool; 3] = [
            |ledger, turn| ledger.settle_one(DeliveryTag(turn)).is_ok(),
            |ledger, turn| ledger.settle_one(DeliveryTag(MANY + 1 - turn)).is_ok(),
            |ledger, turn| turn > 1 || ledger.settle(DeliveryTag(MANY - 1), true).is_ok(),
        ];
        for settle in settle {
            let mut ledger = Ledger::new();
            (1..=MANY).for_each(|entry| _ = ledger.push(entry));
            assert!((1..=MANY).all(|turn| settle(&mut ledger, turn)));
            let room = ledger.row.capacity();
            assert!(room <= 4 * LEAST_KEPT, "{room} for {}", ledger.len());
        }
    }

    #[test]
    fn confirms_come_in_any_order_and_in_groups() {
        // CONF-4
        let mut ledger = four();
        assert_eq!(settled(&mut ledger, 3, false).unwrap(), "c");
        assert_eq!(ledger.settle_through(DeliveryTag(3)), ['a', 'b']);
        assert_eq!(ledger.len(), 1);
    }
}
