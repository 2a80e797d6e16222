//! # The listener: what is heard in the connection's own task, with no queue and no other task between
//!
//! ```text
//!  a consumer   session ─▶ queue ─▶ the consumer's task ─▶ whoever waits for it
//!  a listener   session ────────────────────────────────▶ whoever waits for it
//! ```
//!
//! A listener must not wait, and the whole connection waits for it; so it is nothing for users, whose work takes as long
//! as it takes. Remote calls have one, since all there is to do with a reply is to find its call.
//!
//! Read next: [`vitals`](super::vitals).

use std::{fmt, sync::Arc};

use super::{
    channel::Channel,
    consumer::Received,
    error::Error,
    inbox::{Inbox, ReturnsTo},
    session::{Confirm, Returned},
};
use crate::codec::BasicConsume;

/// Hears what comes on a channel.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    fn delivered(&self, received: Received);

    fn returned(&self, returned: Returned);

    /// Nothing more is delivered. The first reason that is heard is the true one.
    fn ended(&self, why: Error);
}

/// Hears what became of one publish.
pub(crate) trait ConfirmListener: fmt::Debug + Send + Sync {
    /// An error: nobody knows any more (CONF-8).
    fn confirmed(&self, outcome: Result<Confirm, Error>);
}

impl Channel {
    /// Subscribes without acknowledgements for a listener, which hears of returned messages too. It hears all there is
    /// until the subscription ends, with the channel at the latest.
    ///
    /// # Errors
    /// As for [`consume`](Self::consume).
    ///
    /// # Cancel safety
    /// A dropped future may have subscribed.
    pub(crate) async fn listen(
        &self,
        mut consume: BasicConsume,
        listener: Arc<dyn Listener>,
    ) -> Result<(), Error> {
        consume.no_ack = true;
        self.give_tag(&mut consume)?;
        *self.handle().channel().returns() = Some(ReturnsTo::Listener(listener.clone()));
        let inbox = Inbox::heard_by(consume.consumer_tag.clone(), listener);
        self.subscribe(consume, inbox).await
    }
}
