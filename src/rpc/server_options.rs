//! # Server options: how a server serves, when it does not as the tutorial has it
//!
//! ```text
//! broker │ .. 6 5 4 │ ── prefetch 3 ──▶ server │ 3 2 │ ── concurrency 1 ──▶ handler │ 1 │
//!           anybody's                            held: no other server gets these
//! ```
//!
//! The tutorial has prefetch 1, and so has the default: who is busy gets no second request (RPC-13, QOS-9). More hides
//! the way to the broker and back behind the work, and holds what others could have done meanwhile.
//!
//! Read next: `requests`. Explained in `docs/15-prefetch.md`.

use std::{sync::Arc, time::Duration};

use super::{
    bounds::Bounds,
    cache::ReplyCache,
    deadline::{Clock, since_1970},
    queue::{DeadLetters, QueueType},
    requests::Requests,
    server::RpcServer,
    trace::Propagator,
};
use crate::{
    client::{Connection, Endpoints, Error},
    codec::ShortString,
};

/// How a server serves.
#[derive(Debug, Clone)]
pub struct RpcServerOptions {
    /// How the queue is declared.
    pub queue_type: QueueType,
    /// Where rejected requests go, if it is the server that makes the queue.
    pub dead_letters: Option<DeadLetters>,
    /// How many requests the broker hands out before the first is acknowledged, at most 65535; 0 means 65535. 1
    /// is fair dispatch: a busy server gets no second request (QOS-9, RPC-13). More hides the way to the broker and back
    /// behind the work, and what has no handler yet waits here, where no other server gets it.
    pub prefetch: u16,
    /// How many handlers run at once: as many as `prefetch`. A greater number changes nothing.
    pub concurrency: Option<usize>,
    /// How long the work on a request may take, however long its caller would wait: 30 s. Then it is answered with an
    /// error of kind `work-limit`.
    pub work_limit: Duration,
    /// What a request may be.
    pub bounds: Bounds,
    /// The longest result in octets: 16 MiB, which is what RabbitMQ 4 takes. A longer one would cost the channel, so
    /// its caller gets an error of kind `reply-too-large` in its place.
    pub max_reply: usize,
    /// How often a request may have come back unanswered and is still worked on: 5. Beyond that it is taken for one that
    /// kills its servers, answered with an error of kind `poison` and rejected. Only a quorum queue counts that far
    /// (RPC-23).
    pub max_redeliveries: u64,
    /// How long a stopping server may take to finish what it has begun: 30 s. What is not finished then comes again, to
    /// whoever serves.
    pub drain_limit: Duration,
    /// The clock that `rpc-deadline` is compared with. That of the machine.
    pub clock: Clock,
    /// Replies that are kept for requests that come again. None are.
    pub reply_cache: Option<Arc<ReplyCache>>,
    /// Reads the trace of a request into its span. Nobody does, unless the application says who.
    pub propagator: Option<Arc<dyn Propagator>>,
}

impl Default for RpcServerOptions {
    fn default() -> Self {
        Self {
            queue_type: QueueType::Auto,
            dead_letters: None,
            prefetch: 1,
            concurrency: None,
            work_limit: Duration::from_secs(30),
            bounds: Bounds::default(),
            max_reply: 16 << 20,
            max_redeliveries: 5,
            drain_limit: Duration::from_secs(30),
            clock: since_1970,
            reply_cache: None,
            propagator: None,
        }
    }
}

impl RpcServerOptions {
    /// No limit at all would leave no bound on what waits here.
    pub(super) fn prefetch(&self) -> u16 {
        match self.prefetch {
            0 => u16::MAX,
            prefetch => prefetch,
        }
    }

    pub(super) fn concurrency(&self) -> usize {
        let prefetch = self.prefetch().into();
        self.concurrency.unwrap_or(prefetch).clamp(1, prefetch)
    }
}

impl RpcServer {
    /// As [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect), and 406 when the queue exists with other properties.
    ///
    /// # Cancel safety
    /// As for [`connect`](Self::connect).
    pub async fn connect_with<E, Q>(
        endpoints: E,
        queue: Q,
        options: RpcServerOptions,
    ) -> Result<Self, Error>
    where
        E: TryInto<Endpoints>,
        Q: TryInto<ShortString>,
        Error: From<E::Error> + From<Q::Error>,
    {
        let (endpoints, options) = (endpoints.try_into()?, Arc::new(options));
        let requests = Requests::dial(endpoints, queue.try_into()?, options.clone()).await?;
        Ok(Self { requests, options })
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and 406 when the queue exists with other properties.
    ///
    /// # Cancel safety
    /// As for [`connect`](Self::connect).
    pub async fn with_options<Q>(
        connection: &Connection,
        queue: Q,
        options: RpcServerOptions,
    ) -> Result<Self, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let (queue, options) = (queue.try_into()?, Arc::new(options));
        let requests = Requests::on(connection.clone(), queue, options.clone()).await?;
        Ok(Self { requests, options })
    }
}
