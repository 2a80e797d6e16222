//! # Timers: what happens in queues when nobody says anything
//!
//! ```text
//! queue "jobs" │ 9 8 7 │◀─ head: expires at 12:00:05     the one timer of this queue: 12:00:05
//!                  └─ has expired already                stays until it is the head, and counts until then (CONS-23)
//! ```
//!
//! Every queue has at most one timer, set to when its head expires or to when it would itself (QUEUE-20). A timer may
//! be early, since its message may have been taken meanwhile; then somebody looks in vain and sets it anew. It is never
//! late.
//!
//! Read next: `dead_letters`. Explained in `docs/16-three-timeouts.md`.

use std::{collections::BTreeMap, time::Instant};

use super::Vhost;
use crate::{broker::queue::Queue, codec::ShortString};

/// The timers of all queues, by time and then by the number of the queue.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<(Instant, u64), ShortString>);

impl Timers {
    /// Sets the queue's timer, unless it goes off early enough as it is.
    pub(super) fn set(&mut self, queue: &mut Queue) {
        let Some(due) = queue.due() else {
            return;
        };
        if queue.timer.is_some_and(|set| set <= due) {
            return;
        }
        self.cancel(queue);
        queue.timer = Some(due);
        self.0.insert((due, queue.id.number), queue.id.name.clone());
    }

    pub(super) fn cancel(&mut self, queue: &mut Queue) {
        if let Some(set) = queue.timer.take() {
            self.0.remove(&(set, queue.id.number));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.0.first_key_value().map(|((due, _), _)| *due)
    }

    /// The queue of a timer that has gone off.
    fn next(&mut self, now: Instant) -> Option<ShortString> {
        let first = self.0.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl Vhost {
    /// The queue has another head than before.
    pub(super) fn watch(&mut self, name: &ShortString) {
        if let Some(queue) = self.queues.get_mut(name) {
            self.timers.set(queue);
        }
    }

    /// When to call [`tick`](Self::tick) next, if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.behind.or_else(|| self.timers.first())
    }

    /// The time: drops what has expired at the heads of queues, and goes on with what was left to do. CONS-22, CONS-23
    pub fn tick(&mut self, now: Instant) {
        while let Some(name) = self.timers.next(now) {
            if let Some(queue) = self.queues.get_mut(&name) {
                queue.timer = None;
                if queue.is_forgotten(now) {
                    self.remove_queue(&name); // with all that is in it, and no dead letters: QUEUE-20
                } else {
                    self.pump(&name, now);
                }
            }
        }
        self.finish(now);
    }

    /// Tells the calendar: at `now` it was so many seconds after 1970. It dates dead letters (DLX-2).
    pub fn date(&mut self, now: Instant, unix_seconds: u64) {
        self.calendar = Some((now, unix_seconds));
    }

    pub(super) fn unix_seconds(&self, now: Instant) -> u64 {
        self.calendar.map_or(0, |(then, seconds)| {
            seconds.saturating_add(now.saturating_duration_since(then).as_secs())
        })
    }
}
