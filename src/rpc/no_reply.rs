//! What can still be found out about a call that nobody answered in time.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use tokio::time::timeout;

use super::{queue::look_up, replies::ReplyAddress};
use crate::{
    client::Connection,
    codec::{ConsumerTag, ShortString},
};

/// How long the broker may take to say how many servers there are, once a call has failed already.
const LOOK_UP_LIMIT: Duration = Duration::from_millis(500);

/// What is known of a call whose deadline has passed: enough to find out whose fault it was.
#[derive(Debug, Clone, PartialEq)]
pub struct NoReply {
    /// The queue it was for.
    pub queue: ShortString,
    /// The id of the call, as a server's log has it.
    pub correlation_id: ShortString,
    /// How long it waited.
    pub elapsed: Duration,
    /// Whether the broker had confirmed the request: then the fault is on the server's side. RPC-12
    pub confirmed: bool,
    /// Why the broker does not want to hear from publishers, if it says so: it may never have read the request. BLOCK-1
    pub blocked: Option<ShortString>,
    /// How many servers consume from the queue, if the broker could still be asked. RPC-8
    pub consumers: Option<u32>,
    /// The consumer whose full queue keeps the connection, and so the reply, from being read, if one does.
    pub in_the_way: Option<ConsumerTag>,
}

impl Display for NoReply {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { queue, elapsed, .. } = self;
        write!(f, "queue {queue} within {} s: ", elapsed.as_secs_f32())?;
        match self {
            Self {
                in_the_way: Some(tag),
                ..
            } => write!(f, "consumer {tag} has not taken what is queued for it"),
            Self {
                blocked: Some(reason),
                ..
            } => write!(f, "the broker has blocked this connection ({reason})"),
            Self {
                confirmed: false, ..
            } => f.write_str("the broker has not confirmed the request"),
            Self {
                consumers: Some(0), ..
            } => f.write_str("the queue exists, but nobody consumes from it"),
            Self {
                consumers: Some(1), ..
            } => f.write_str("one server consumes from the queue"),
            Self {
                consumers: Some(many),
                ..
            } => write!(f, "{many} servers consume from the queue"),
            Self {
                consumers: None, ..
            } => f.write_str("the broker did not say in time who consumes from the queue"),
        }
    }
}

impl NoReply {
    /// Only now, when the call has failed anyway, is it worth a round trip to ask who is there (RPC-8).
    pub(super) async fn find_out(
        address: &ReplyAddress,
        queue: ShortString,
        correlation_id: ShortString,
        elapsed: Duration,
        confirmed: bool,
    ) -> Self {
        let connection = &address.connection;
        let in_the_way = connection.in_the_way();
        let blocked = connection.blocked().borrow().clone();
        let consumers = match (&in_the_way, &blocked) {
            (None, None) => count_consumers(connection, &queue).await,
            _ => None, // no answer would be read either
        };
        Self {
            queue,
            correlation_id,
            elapsed,
            confirmed,
            blocked,
            consumers,
            in_the_way,
        }
    }
}

async fn count_consumers(connection: &Connection, queue: &ShortString) -> Option<u32> {
    let found = timeout(LOOK_UP_LIMIT, look_up(connection, queue)).await;
    Some(found.ok()?.ok()??.consumer_count)
}
