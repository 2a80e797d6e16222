//! # The reply cache: a request that comes twice is done once
//!
//! ```text
//!  request id=7  ─▶ the handler works ─▶ reply, kept ──▶ the connection is lost before the ack: RPC-14
//!  request id=7  ─▶ found: the same reply, and no handler
//! ```
//!
//! What makes two requests the same is `message_id`, which an idempotent call keeps whenever it is sent again (RPC-15).
//! The key is the routing key, this id and the body, so that a caller who uses an id twice for different work gets
//! different answers, and not another's.
//!
//! A cache is memory of one process. What it has kept is lost with the process, and another server of the queue knows
//! nothing of it: work that must be done once even then remembers the id where its effect is, in the same transaction.
//!
//! Read next: `typed`. Explained in `docs/14-crashes.md`.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tokio::sync::OnceCell;

use super::{
    error_reply::{HandlerError, LAYER, UNAVAILABLE},
    request::Request,
};
use crate::{client::Message, codec::ShortString};

/// What a handler answers.
type Answer = Result<Message, HandlerError>;

/// What an answer takes in octets besides its body and its properties: its key and its place in the table.
const OVERHEAD: usize = 512;

/// What a content header has besides its properties: class-id, weight, body-size and flags.
const HEADER: usize = 2 + 2 + 8 + 2;

/// The replies of a server, up to so many octets; the one that was used longest ago goes first, and one that is longer
/// than that is not kept. Servers that are given the same cache share it.
///
/// * A request without `message_id` is worked on as ever.
/// * One that comes while the first of its id is worked on waits for that, until its own deadline, and has the same reply.
///   If the first ends without an answer, the next begins.
/// * An error that a handler answers is kept as a result is: part of the work may be done. Not kept is
///   [`unavailable`](HandlerError::unavailable), which says that nothing is; nor what ends without an answer, by a panic,
///   at a time limit or in a [`layer`](LAYER): then the work is done anew.
pub struct ReplyCache {
    octets: usize,
    hasher: RandomState,
    replies: Mutex<Replies>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    queue: ShortString,
    id: ShortString,
    /// A hash that a stranger cannot foretell, in place of what may be megabytes.
    body: u64,
}

struct Replies {
    kept: LruCache<Key, (Answer, usize)>,
    octets: usize,
    running: HashMap<Key, Running>,
}

/// Where the second of an id waits for the first.
#[derive(Default)]
struct Running {
    cell: Arc<OnceCell<Answer>>,
    turns: usize,
}

impl fmt::Debug for ReplyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replies { kept, octets, .. } = &*self.replies();
        let mut cache = f.debug_struct("ReplyCache");
        cache.field("kept", &kept.len()).field("octets", octets);
        cache.finish_non_exhaustive()
    }
}

/// What is known of a request.
enum Found<'a> {
    Kept(Answer),
    Running(Turn<'a>),
}

impl ReplyCache {
    /// For so many octets of replies, each counted with its properties and half a kibibyte more.
    pub fn new(octets: usize) -> Self {
        let replies = Replies {
            kept: LruCache::unbounded(), // by number: it is bounded by octets
            octets: 0,
            running: HashMap::new(),
        };
        Self {
            octets,
            hasher: RandomState::new(),
            replies: Mutex::new(replies),
        }
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that is kept, the one that is being worked on, or the work. `replayed` hears of the first two.
    ///
    /// # Cancel safety
    /// A dropped future drops its work; whoever waits for the same answer begins it anew.
    pub(super) async fn answer<F>(
        &self,
        request: Request,
        work: impl FnOnce(Request) -> F,
        replayed: impl FnOnce(),
    ) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let Some(id) = request.properties.message_id.clone() else {
            return work(request).await;
        };
        let key = Key {
            queue: request.routing_key.clone(),
            id,
            body: self.hasher.hash_one(&request.body),
        };
        let turn = match self.find(&key) {
            Found::Kept(answer) => {
                replayed();
                return answer;
            }
            Found::Running(turn) => turn,
        };
        let mut worked = false;
        let answer = turn.cell.get_or_try_init(async || {
            worked = true;
            let answer = work(request).await;
            match &answer {
                Err(error) if error.kind == UNAVAILABLE || error.kind == LAYER => Err(answer),
                _ => {
                    self.keep(&key, &answer);
                    Ok(answer)
                }
            }
        });
        let answer = answer.await.cloned().unwrap_or_else(|answer| answer);
        if !worked {
            replayed();
        }
        answer
    }

    fn find<'a>(&'a self, key: &'a Key) -> Found<'a> {
        let mut replies = self.replies();
        if let Some((answer, _)) = replies.kept.get(key) {
            return Found::Kept(answer.clone());
        }
        let running = replies.running.entry(key.clone()).or_default();
        running.turns += 1;
        let cell = running.cell.clone();
        Found::Running(Turn {
            cache: self,
            key,
            cell,
        })
    }

    fn keep(&self, key: &Key, answer: &Answer) {
        let answer = answer.clone().map(Message::into_owned); // nothing of a read buffer
        let octets = octets(&answer);
        if octets > self.octets {
            return;
        }
        let mut replies = self.replies();
        replies.octets += octets;
        let before = replies.kept.put(key.clone(), (answer, octets));
        replies.octets -= before.map_or(0, |(_, octets)| octets);
        while replies.octets > self.octets
            && let Some((_, (_, octets))) = replies.kept.pop_lru()
        {
            replies.octets -= octets;
        }
    }
}

fn octets(answer: &Answer) -> usize {
    let octets = match answer {
        Ok(Message { properties, body }) => HEADER + properties.encoded_len() + body.len(),
        Err(HandlerError { kind, message }) => kind.len() + message.len(),
    };
    OVERHEAD + octets
}

/// A request among those of one id that are worked on or wait.
struct Turn<'a> {
    cache: &'a ReplyCache,
    key: &'a Key,
    cell: Arc<OnceCell<Answer>>,
}

impl Drop for Turn<'_> {
    /// The last of them leaves nothing behind.
    fn drop(&mut self) {
        let running = &mut self.cache.replies().running;
        let Some(entry) = running.get_mut(self.key) else {
            return;
        };
        entry.turns -= 1;
        if entry.turns == 0 {
            running.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        pin::pin,
        task::{Context, Waker},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        client::Received,
        codec::{FieldTable, Properties},
        rpc::{Deadline, RpcServerOptions},
        short,
    };

    fn request(id: u8) -> Request {
        let properties = Properties {
            message_id: Some(ShortString::truncated(&id.to_string())),
            ..Default::default()
        };
        let received = Received {
            exchange: short!(""),
            routing_key: short!("q"),
            redelivered: false,
            message: Message::new(properties, ""),
        };
        let deadline = Deadline::after(Duration::from_secs(1));
        Request::new(received, deadline, &RpcServerOptions::default())
    }

    fn reply(length: usize) -> Message {
        vec![0; length].into()
    }

    /// Answers with `length` octets, and says whether it had to.
    fn answer(cache: &ReplyCache, id: u8, length: usize) -> bool {
        let worked = Cell::new(true);
        let work = async |_| Ok(reply(length));
        let answer = pin!(cache.answer(request(id), work, || worked.set(false)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(answer.poll(&mut context).is_ready());
        worked.get()
    }

    #[test]
    fn the_reply_that_was_used_longest_ago_goes_first() {
        let cache = ReplyCache::new(3 * octets(&Ok(reply(100))));
        assert!([1, 2, 3].into_iter().all(|id| answer(&cache, id, 100)));
        assert!(!answer(&cache, 1, 100), "used again");
        assert!(
            answer(&cache, 4, 100),
            "the fourth has the place of the second"
        );
        assert!(!answer(&cache, 1, 100) && !answer(&cache, 3, 100) && !answer(&cache, 4, 100));
        assert!(answer(&cache, 2, 100));
        assert!(
            answer(&cache, 5, 10_000),
            "longer than the whole cache: it is not kept"
        );
        assert!(answer(&cache, 5, 10_000));
        assert!(!answer(&cache, 2, 100), "and costs no other its place");
    }

    #[test]
    fn headers_count_as_the_body_does() {
        let plain = octets(&Ok(reply(0)));
        let headers = FieldTable(vec![(short!("long"), "x".repeat(1000).into())]);
        let properties = Properties {
            headers: Some(headers),
            ..Default::default()
        };
        assert!(octets(&Ok(Message::new(properties, ""))) > plain + 1000);
        assert!(octets(&Err(HandlerError::new("no", "x".repeat(1000)))) > 1000);
    }

    proptest! {
        #[test]
        fn what_is_kept_never_has_more_octets_than_it_may(
            most in 0..8000_usize,
            requests in proptest::collection::vec((0..8_u8, 0..4000_usize), 0..64),
        ) {
            let cache = ReplyCache::new(most);
            for (id, length) in requests {
                answer(&cache, id, length);
                let replies = cache.replies();
                let counted: usize = replies.kept.iter().map(|(_, (answer, octets))| {
                    assert_eq!(*octets, super::octets(answer));
                    octets
                }).sum();
                prop_assert_eq!(replies.octets, counted);
                prop_assert!(counted <= most);
                prop_assert!(replies.running.is_empty(), "nothing is left behind");
            }
        }
    }
}
