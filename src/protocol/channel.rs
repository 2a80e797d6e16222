//! # A channel: a lane of its own, and the replies it still owes
//!
//! ```text
//!  CLOSED --open--> OPENING --open-ok--> OPEN
//!  OPEN --send close--> CLOSING --recv close-ok--> CLOSED
//!  OPEN --recv close--> send close-ok --> CLOSED
//! ```
//!
//! Requests of one channel are answered in order (METH-10), so what a reply belongs to is a question of counting:
//! the oldest request that is still owed one. While waiting, the channel may receive deliveries, returns, confirms
//! and a close (METH-7); they are not replies and do not touch the queue.
//!
//! Read next: [`content`](super::content).

use std::collections::VecDeque;

use super::content::Assembler;
use crate::codec::{Method, MethodRow};

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
    owed: VecDeque<&'static MethodRow>,
}

/// What an incoming method is to the requests that were sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It answers the oldest request.
    Reply,
    /// It answers nothing: a delivery, a confirm, or a request of the peer's own.
    Unasked,
    /// It is a reply, but not to the oldest request. METH-9
    Wrong,
}

impl Channel {
    pub(crate) const fn new(stage: Stage) -> Self {
        Self {
            stage,
            assembler: Assembler::AwaitMethod,
            owed: VecDeque::new(),
        }
    }

    /// Notes a request, so that its reply is known when it comes. METH-6
    pub(crate) fn expect(&mut self, request: &Method) {
        if request.awaits_reply() {
            self.owed.push_back(request.row());
        }
    }

    /// Compares an incoming method with the oldest request.
    pub(crate) fn answer(&mut self, got: &Method) -> Answer {
        let id = got.id();
        if self
            .owed
            .front()
            .is_some_and(|request| request.replies.contains(&id))
        {
            self.owed.pop_front();
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
}
