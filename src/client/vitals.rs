//! # Vitals: how a subscription is, seen from outside
//!
//! ```text
//! connection open? ── channel open? ── consumer there?      each stands on the one before it
//!       └ silence: how long not one octet has come (HB-3)
//! ```
//!
//! A consumer can end while everything below it stands: when its queue is deleted, the broker cancels it (CONS-17). A
//! server that watches its connection alone would then wait for requests for ever, in good health.
//!
//! Read next: `handle`. Explained in `docs/10-heartbeats.md`.

use std::{sync::Arc, time::Duration};

use super::{
    consumer::{Consumer, Item},
    inbox::Level,
    session::{ChannelShared, Shared},
};

/// A look at a consumer and at all that it stands on. It asks the broker nothing, and keeps nothing open: it may be held
/// for as long as one likes.
#[derive(Debug, Clone)]
pub struct Vitals {
    connection: Arc<Shared>,
    channel: Arc<ChannelShared>,
    consumer: Arc<Level>,
}

impl Vitals {
    /// Whether the connection is open.
    pub fn connection(&self) -> bool {
        self.connection.cause.get().is_none()
    }

    /// Whether the channel is open, and the connection below it.
    pub fn channel(&self) -> bool {
        self.connection() && self.channel.cause.get().is_none()
    }

    /// Whether the broker has the consumer and will send it what comes.
    pub fn consumer(&self) -> bool {
        self.channel() && self.consumer.end.get().is_none()
    }

    /// How long nothing has been heard from the broker; any octet counts. With heartbeats every `h` seconds it is at most
    /// about `h / 2`, and at `2h` the connection is over. HB-1, HB-3
    pub fn silence(&self) -> Duration {
        self.connection.silence()
    }
}

impl<D: Item> Consumer<D> {
    /// A look at this consumer that outlives it.
    pub fn vitals(&self) -> Vitals {
        Vitals {
            connection: self.handle.connection().shared.clone(),
            channel: self.handle.channel().clone(),
            consumer: self.level.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::Broker,
        client::{Channel, Connection},
        codec::{QueueDeclare, QueueDelete},
        short,
    };

    async fn queue(connection: &Connection) -> Channel {
        let channel = connection.open_channel().await.unwrap();
        let queue = short!("q");
        let declare = QueueDeclare {
            queue,
            ..Default::default()
        };
        channel.queue_declare(declare).await.unwrap();
        channel
    }

    #[tokio::test]
    async fn each_end_is_seen_and_nothing_is_kept_open() {
        let broker = Broker::start().await.unwrap();
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let channel = queue(&connection).await;
        let mut consumer = channel.consume("q").await.unwrap();
        let vitals = consumer.vitals();
        assert!(vitals.consumer());

        let queue = short!("q");
        let delete = QueueDelete {
            queue,
            ..Default::default()
        };
        channel.queue_delete(delete).await.unwrap();
        assert!(consumer.next().await.unwrap().is_err()); // CONS-18
        assert_eq!((vitals.channel(), vitals.consumer()), (true, false));

        channel.close().await.unwrap();
        assert_eq!((vitals.connection(), vitals.channel()), (true, false));
        drop(consumer);
        let cause = connection.clone();
        connection.close().await.unwrap();
        cause.closed().await;
        assert!(!vitals.connection());
    }

    #[tokio::test]
    async fn silence_ends_with_any_octet() {
        // HB-3
        let broker = Broker::start().await.unwrap();
        let connection = Connection::open(&broker.uri()).await.unwrap();
        let channel = queue(&connection).await;
        let consumer = channel.consume("q").await.unwrap();
        let vitals = consumer.vitals();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(vitals.silence() >= Duration::from_secs(7));
        channel.qos(1).await.unwrap();
        assert!(vitals.silence() < Duration::from_secs(7));
    }
}
