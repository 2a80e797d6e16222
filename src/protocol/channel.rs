//! # A channel: a lane of its own, and the replies it still owes
//!
//! ```text
//!  CLOSED --open--> OPENING --open-ok--> OPEN
//!  OPEN --send close--> CLOSING --recv close-ok--> CLOSED
//!  OPEN --recv close--> send close-ok --> CLOSED
//! ```
//!
//! Requests of one channel are handled in order (METH-10), so a reply belongs to the oldest request that is still owed
//! one. RabbitMQ keeps that order but for `basic.consume` and `basic.cancel`: those it answers when the queue has, and
//! a request behind them may be answered first. Their replies carry the consumer tag, by which they are found.
//!
//! While waiting, the channel may receive deliveries, returns, confirms and a close (METH-7); they are not replies and
//! do not touch the queue.
//!
//! Read next: [`content`](super::content). Explained in `docs/05-channels.md`.

use std::collections::VecDeque;

use super::content::Assembler;
use crate::codec::{BasicCancel, BasicConsume, ConsumerTag, Method, MethodRow};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// channel.open is sent; methods may not follow yet.
    Opening,
    Open,
    /// channel.close is sent: everything but close and close-ok is discarded. CHAN-7, CHAN-9
    Closing,
}

/// One lane of a connection, the same for client and broker.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) stage: Stage,
    pub(crate) assembler: Assembler,
    owed: VecDeque<Owed>,
}

/// The reply that a request is owed.
#[derive(Debug)]
pub(crate) struct Owed {
    request: &'static MethodRow,
    /// Whose consume or cancel it is; these two may be answered late.
    consumer: Option<ConsumerTag>,
}

impl Owed {
    /// What this request is owed, if anything. METH-8
    pub(crate) fn by(request: &Method) -> Option<Self> {
        let consumer = match request {
            Method::BasicConsume(BasicConsume { consumer_tag, .. })
            | Method::BasicCancel(BasicCancel { consumer_tag, .. }) => Some(consumer_tag.clone()),
            _ => None,
        };
        let request = request.awaits_reply().then(|| request.row())?;
        Some(Self { request, consumer })
    }

    /// Which of those who wait, the oldest first, `got` is the reply to.
    pub(crate) fn find<'a>(owed: impl Iterator<Item = &'a Self>, got: &Method) -> Option<usize> {
        for (at, owed) in owed.enumerate() {
            if owed.is(got) {
                return Some(at);
            }
            owed.consumer.as_ref()?; // only these let others pass
        }
        None
    }

    fn is(&self, got: &Method) -> bool {
        let tag = match got {
            Method::BasicConsumeOk(ok) => Some(&ok.consumer_tag),
            Method::BasicCancelOk(ok) => Some(&ok.consumer_tag),
            _ => None,
        };
        // A consume without a tag learns it from its reply. CONS-1
        let named = self.consumer.as_ref().filter(|tag| !tag.0.is_empty());
        self.request.replies.contains(&got.id()) && named.is_none_or(|named| tag == Some(named))
    }
}

/// What an incoming method is to the requests that were sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It answers a request, and that one is owed nothing more.
    Reply,
    /// It answers nothing: a delivery, a confirm, or a request of the peer's own.
    Unasked,
    /// It is a reply, but not to a request whose turn it is. METH-9
    Wrong,
}

impl Channel {
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            stage,
            assembler: Assembler::default(),
            owed: VecDeque::new(),
        }
    }

    /// Notes a request, so that its reply is known when it comes. METH-6
    pub(crate) fn expect(&mut self, request: &Method) {
        self.owed.extend(Owed::by(request));
    }

    /// Compares an incoming method with the requests.
    pub(crate) fn answer(&mut self, got: &Method) -> Answer {
        if let Some(at) = Owed::find(self.owed.iter(), got) {
            self.owed.remove(at);
            return Answer::Reply;
        }
        if got.row().is_reply() {
            Answer::Wrong
        } else {
            Answer::Unasked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::*;

    #[test]
    fn replies_come_in_the_order_of_the_requests() {
        // METH-6, METH-7, METH-9, METH-10
        let mut channel = Channel::new(Stage::Open);
        channel.expect(&QueueDeclare::default().into());
        channel.expect(
            &BasicConsume {
                no_wait: true,
                ..Default::default()
            }
            .into(),
        ); // no reply is owed: METH-8
        channel.expect(&BasicGet::default().into());

        assert_eq!(
            channel.answer(&BasicDeliver::default().into()),
            Answer::Unasked
        );
        assert_eq!(
            channel.answer(&BasicGetEmpty::default().into()),
            Answer::Wrong,
            "the declare is older"
        );
        assert_eq!(
            channel.answer(&QueueDeclareOk::default().into()),
            Answer::Reply
        );
        assert_eq!(
            channel.answer(&BasicGetEmpty::default().into()),
            Answer::Reply,
            "one of the two replies of get"
        );
        assert_eq!(channel.answer(&BasicGetOk::default().into()), Answer::Wrong);
    }

    #[test]
    fn a_consume_that_named_its_tag_is_answered_by_it() {
        // CONS-1: one that did not takes the next.
        let tag = |name| ConsumerTag(ShortString::literal(name));
        let mut channel = Channel::new(Stage::Open);
        let consume = BasicConsume {
            consumer_tag: tag("a"),
            ..Default::default()
        };
        channel.expect(&consume.into());
        let mut answer = |consumer_tag| channel.answer(&BasicConsumeOk { consumer_tag }.into());
        assert_eq!(answer(tag("b")), Answer::Wrong);
        assert_eq!(answer(tag("a")), Answer::Reply);
        assert_eq!(answer(tag("a")), Answer::Wrong);
    }

    #[test]
    fn consume_and_cancel_may_be_answered_late() {
        // METH-10: seen on RabbitMQ 3.10.8, with queue.declare-ok before the cancel-ok of an older cancel.
        let tag = |name| ConsumerTag(ShortString::literal(name));
        let cancel_ok = |name| {
            BasicCancelOk {
                consumer_tag: tag(name),
            }
            .into()
        };
        let mut channel = Channel::new(Stage::Open);
        for consumer_tag in [tag("a"), tag("b")] {
            channel.expect(
                &BasicCancel {
                    consumer_tag,
                    no_wait: false,
                }
                .into(),
            );
        }
        channel.expect(&BasicConsume::default().into());
        channel.expect(&QueueDeclare::default().into());
        channel.expect(&BasicQos::default().into());

        assert_eq!(
            channel.answer(&BasicQosOk {}.into()),
            Answer::Wrong,
            "the declare lets nobody pass"
        );
        assert_eq!(
            channel.answer(&QueueDeclareOk::default().into()),
            Answer::Reply
        );
        assert_eq!(
            channel.answer(&cancel_ok("c")),
            Answer::Wrong,
            "nobody's tag"
        );
        assert_eq!(channel.answer(&cancel_ok("b")), Answer::Reply);
        let named = BasicConsumeOk {
            consumer_tag: tag("amq.ctag-1"),
        };
        assert_eq!(channel.answer(&named.into()), Answer::Reply);
        assert_eq!(channel.answer(&cancel_ok("a")), Answer::Reply);
        assert_eq!(channel.answer(&BasicQosOk {}.into()), Answer::Reply);
        assert_eq!(channel.answer(&cancel_ok("a")), Answer::Wrong);
    }
}
