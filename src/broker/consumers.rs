//! # Consumers: whose turn it is
//!
//! ```text
//!  priority 10   c4                      served first, as long as one of them can take a message
//!  priority  0   c1 ─► c2 ─► c3 ─┐       then these, in turn (CONS-11)
//!                 ▲──────────────┘
//!  aside         c5                      has its prefetch full: costs nothing until something frees a slot
//! ```
//!
//! A consumer that cannot take a message steps aside and is not asked again for every message that comes. Whatever
//! frees a slot, an ack or an emptied socket, has to call it back ([`Consumers::recall`]).
//!
//! Read next: [`death`](super::death). Explained in `docs/15-prefetch.md`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use super::{account::Share, vhost::Lane};
use crate::codec::ConsumerTag;

/// The number of a consumer, unique in its vhost and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// One subscription, as its queue sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Its number.
    pub id: ConsumerId,
    /// The channel its deliveries go to.
    pub lane: Lane,
    /// Its name on that channel.
    pub tag: ConsumerTag,
    /// Whether a message is settled the moment it is sent. CONS-7
    pub no_ack: bool,
    /// How many messages it may hold unacknowledged; 0 is no limit. QOS-1, QOS-2
    pub prefetch: u16,
    /// `x-priority`: the higher one gets everything while it can take it.
    pub priority: i128,
}

#[derive(Debug)]
struct Place {
    consumer: Consumer,
    held: usize,
    in_line: bool,
    _share: Share,
}

impl Place {
    /// A no-ack consumer holds nothing, so that no limit applies to it. QOS-6
    fn has_room(&self) -> bool {
        let prefetch = self.consumer.prefetch;
        prefetch == 0 || self.held < usize::from(prefetch)
    }
}

/// The consumers of one queue.
#[derive(Debug, Default)]
pub struct Consumers {
    places: BTreeMap<ConsumerId, Place>,
    line: BTreeMap<Reverse<i128>, VecDeque<ConsumerId>>,
    exclusive: Option<ConsumerId>,
}

impl Consumers {
    /// How many there are, with those that stand aside.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether an exclusive consumer keeps all others out. CONS-8
    pub fn is_exclusive(&self) -> bool {
        self.exclusive.is_some()
    }

    /// The consumers, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.places.values().map(|place| &place.consumer)
    }

    /// Adds a consumer at the end of the line; `share` is what it costs.
    pub fn insert(&mut self, consumer: Consumer, exclusive: bool, share: Share) {
        let id = consumer.id;
        if exclusive {
            self.exclusive = Some(id);
        }
        let place = Place {
            consumer,
            held: 0,
            in_line: false,
            _share: share,
        };
        self.places.insert(id, place);
        self.recall(id);
    }

    /// Removes a consumer; what it still holds stays with its channel. CONS-13
    pub fn remove(&mut self, id: ConsumerId) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        let priority = Reverse(place.consumer.priority);
        if let Some(line) = self.line.get_mut(&priority) {
            line.retain(|waiting| *waiting != id);
            if line.is_empty() {
                self.line.remove(&priority);
            }
        }
        self.exclusive = self.exclusive.filter(|exclusive| *exclusive != id);
    }

    /// Something was freed: if the consumer stood aside, it is back at the end of the line.
    pub fn recall(&mut self, id: ConsumerId) {
        let Some(place) = self.places.get_mut(&id).filter(|place| !place.in_line) else {
            return;
        };
        place.in_line = true;
        let priority = Reverse(place.consumer.priority);
        self.line.entry(priority).or_default().push_back(id);
    }

    /// One of its messages is settled, which frees a slot. QOS-7
    pub fn release(&mut self, id: ConsumerId) {
        if let Some(place) = self.places.get_mut(&id) {
            place.held = place.held.saturating_sub(1);
            self.recall(id);
        }
    }

    /// The consumer whose turn it is, after which it is last of its priority. Those that cannot take a message, by
    /// their own prefetch or because `can_take` says so, step aside.
    pub fn next_turn(&mut self, mut can_take: impl FnMut(&Consumer) -> bool) -> Option<Consumer> {
        while let Some(mut line) = self.line.first_entry() {
            let Some(id) = line.get_mut().pop_front() else {
                line.remove();
                continue;
            };
            let Some(place) = self.places.get_mut(&id) else {
                continue;
            };
            place.in_line = place.has_room() && can_take(&place.consumer);
            if place.in_line {
                line.get_mut().push_back(id);
                place.held += usize::from(!place.consumer.no_ack);
                return Some(place.consumer.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::vhost::ConnectionId,
        codec::{ChannelId, ShortString},
    };

    fn consumer(id: u64, prefetch: u16) -> Consumer {
        Consumer {
            id: ConsumerId(id),
            lane: Lane {
                connection: ConnectionId(1),
                channel: ChannelId(1),
            },
            tag: ConsumerTag(ShortString::EMPTY),
            no_ack: false,
            prefetch,
            priority: 0,
        }
    }

    fn turns(consumers: &mut Consumers, count: usize) -> Vec<u64> {
        (0..count)
            .filter_map(|_| consumers.next_turn(|_| true))
            .map(|consumer| consumer.id.0)
            .collect()
    }

    fn two(prefetch: u16) -> Consumers {
        let mut consumers = Consumers::default();
        consumers.insert(consumer(1, prefetch), false, Share::of_nothing());
        consumers.insert(consumer(2, prefetch), false, Share::of_nothing());
        consumers
    }

    #[test]
    fn turns_go_round() {
        // CONS-11
        assert_eq!(turns(&mut two(0), 5), [1, 2, 1, 2, 1]);
    }

    #[test]
    fn a_full_consumer_steps_aside_until_a_slot_is_free() {
        // QOS-1, QOS-7
        let mut consumers = two(1);
        assert_eq!(turns(&mut consumers, 3), [1, 2]);
        consumers.release(ConsumerId(2));
        assert_eq!(turns(&mut consumers, 3), [2]);
    }

    #[test]
    fn a_recalled_consumer_stands_in_line_once() {
        let mut consumers = two(0);
        consumers.recall(ConsumerId(1));
        assert_eq!(turns(&mut consumers, 4), [1, 2, 1, 2]);
    }

    #[test]
    fn one_that_cannot_take_is_asked_once() {
        let mut consumers = two(0);
        let mut asked = 0;
        for _ in 0..10 {
            let turn = consumers.next_turn(|consumer| {
                asked += u32::from(consumer.id == ConsumerId(1));
                consumer.id != ConsumerId(1)
            });
            assert_eq!(turn.unwrap().id, ConsumerId(2));
        }
        assert_eq!(asked, 1);
    }

    #[test]
    fn the_higher_priority_gets_everything_while_it_can() {
        let mut consumers = two(0);
        let first = Consumer {
            priority: 10,
            ..consumer(3, 2)
        };
        consumers.insert(first, false, Share::of_nothing());
        assert_eq!(turns(&mut consumers, 4), [3, 3, 1, 2]);
    }

    #[test]
    fn a_removed_consumer_leaves_nothing_behind() {
        let mut consumers = two(0);
        consumers.remove(ConsumerId(1));
        assert_eq!(turns(&mut consumers, 2), [2, 2]);
        consumers.remove(ConsumerId(2));
        assert!(consumers.line.is_empty());
    }
}
