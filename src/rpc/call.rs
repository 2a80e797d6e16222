//! # How to call: where replies come to, how long to wait, and whether to ask again
//!
//! ```text
//! DirectReplyTo    reply-to="amq.rabbitmq.reply-to"    no queue: to this very channel, or nowhere (DRT-6)
//! ExclusiveQueue   reply-to="amq.gen-1"                a queue of this connection alone, as in tutorial six (RPC-2)
//!
//! idempotent       correlation-id="a" ──▶ the connection is lost ──▶ correlation-id="b" ──▶ the reply to b
//! within 5 s       message-id="x"                                    message-id="x"
//! ```
//!
//! A second attempt has another correlation id, or a late reply to the first could be taken for the reply to the second
//! (RPC-3). It keeps the message id, by which a server that remembers can know it (RPC-15).
//!
//! Read next: `pending`. Explained in `docs/13-reply-addresses.md`, and `docs/14-crashes.md`.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    client::RpcClient,
    deadline::{Clock, since_1970},
    error::RpcError,
    keeper::Keeper,
    stats::Counters,
    trace::Propagator,
};
use crate::{
    client::{Connection, Endpoints, Error},
    codec::ShortString,
};

/// Where replies come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// To the channel of the client itself, by the name `amq.rabbitmq.reply-to`: RabbitMQ's direct reply-to. No queue is
    /// declared, and none is left behind. A reply to a lost connection is dropped (DRT-10).
    #[default]
    DirectReplyTo,
    /// To an exclusive queue that the broker names, as in tutorial six (RPC-2): every AMQP 0-9-1 broker has these.
    ExclusiveQueue,
}

impl std::str::FromStr for ReplyMode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "direct" => Ok(Self::DirectReplyTo),
            "exclusive" => Ok(Self::ExclusiveQueue),
            other => Err(format!("expected direct or exclusive, got {other:?}")),
        }
    }
}

/// How a client calls.
#[derive(Debug, Clone)]
pub struct RpcClientOptions {
    /// How long a call waits for its reply, unless the call says otherwise: 5 s. Then it takes half a second at most to
    /// find out who is there.
    pub timeout: Duration,
    /// Where replies come to.
    pub reply_mode: ReplyMode,
    /// Makes the id of a call; never the same one twice (RPC-3). A random UUID.
    pub correlation_id: fn() -> ShortString,
    /// The time of day, which deadlines are told by: that of this machine.
    pub clock: Clock,
    /// Writes the trace of a call into its request. Nobody does, unless the application says who.
    pub propagator: Option<Arc<dyn Propagator>>,
}

impl Default for RpcClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            reply_mode: ReplyMode::default(),
            correlation_id: random_id,
            clock: since_1970,
            propagator: None,
        }
    }
}

impl RpcClient {
    /// As [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As for [`connect`](Self::connect).
    pub async fn connect_with<E>(endpoints: E, options: RpcClientOptions) -> Result<Self, Error>
    where
        E: TryInto<Endpoints>,
        Error: From<E::Error>,
    {
        let counters = Arc::new(Counters::default());
        let keeper = Keeper::connect(endpoints.try_into()?, options.reply_mode, &counters).await?;
        Ok(Self::kept(keeper, options, counters))
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    ///
    /// # Cancel safety
    /// As for [`new`](Self::new).
    pub async fn with_options(
        connection: &Connection,
        options: RpcClientOptions,
    ) -> Result<Self, Error> {
        let counters = Arc::new(Counters::default());
        let keeper = Keeper::on(connection, options.reply_mode, &counters).await?;
        Ok(Self::kept(keeper, options, counters))
    }
}

/// Ids that nobody has to agree on: 122 random bits.
pub(super) fn random_id() -> ShortString {
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    ShortString::truncated(text)
}

/// What is special about one call.
///
/// ```
/// use std::time::Duration;
/// use amqp_rpc::rpc::CallOptions;
///
/// let patient = CallOptions::within(Duration::from_secs(60)).idempotent();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    /// How long it waits for its reply; `None` is what the client's options say.
    pub timeout: Option<Duration>,
    /// Whether the work may be done twice without harm. Such a call is sent again, within its own deadline, when the
    /// connection was lost under it; any other ends then, as [`ConnectionLost`](super::RpcError::ConnectionLost).
    /// Each attempt has a new correlation id (RPC-3) and the same `message_id`, by which a server may know it (RPC-15).
    pub idempotent: bool,
}

impl CallOptions {
    /// A time limit of its own. It travels with the request: a server does not start what nobody waits for any more
    /// (RPC-10).
    pub fn within(limit: Duration) -> Self {
        Self {
            timeout: Some(limit),
            idempotent: false,
        }
    }

    /// The work may be done twice.
    #[must_use]
    pub fn idempotent(self) -> Self {
        Self {
            idempotent: true,
            ..self
        }
    }

    /// Whether a call that ended so may be sent again: it was not sent, or may be sent twice. What was sent when its
    /// channel closed may be what closed it.
    pub(super) fn may_try_again(self, error: &RpcError) -> bool {
        match error {
            RpcError::ConnectionLost { maybe_executed, .. } => self.idempotent || !maybe_executed,
            RpcError::ChannelClosed { maybe_executed, .. } => !maybe_executed,
            _ => false,
        }
    }
}
