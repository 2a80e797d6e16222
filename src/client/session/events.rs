//! # Events: what the broker says, and whose it is
//!
//! ```text
//! Reply          the oldest of `waiting` that it fits; its future wakes
//! Content        basic.deliver: the inbox of its consumer tag; basic.return: whoever listens for returns
//! Method         basic.ack, nack: one number or all up to it; basic.cancel: the consumer ends (CONS-18)
//! ChannelClosed  everyone in the books of this channel hears why, and everyone who asks later (CHAN-10, CONF-8)
//! Closed         everyone, and also whoever has a command in the queue that was never obeyed
//! ```
//!
//! Nobody is left waiting, and nobody gets another's answer. A delivery may find its consumer gone, since the cancel
//! and the delivery cross on the way (CONS-14): with acknowledgements it goes back to its queue at once.
//!
//! Read next: `own_thread`. Explained in `docs/07-consuming.md`, and `docs/09-errors-and-closing.md`.

use std::collections::btree_map::Entry;

use tracing::{debug, trace, warn};

use super::{
    super::{
        error::Error,
        inbox::{ConsumerEnd, InboxStage},
    },
    ChannelShared, ChannelState, Confirm, Returned, Session, Waiter,
};
use crate::{
    codec::{BasicReject, ChannelId, ConnectionBlocked, ConsumerTag, DeliveryTag, Method},
    protocol::{Cause, Connection as Core, Ledger, Message, Owed},
};

impl Session {
    pub(super) fn reply(
        &mut self,
        core: &mut Core,
        channel: ChannelId,
        method: Method,
        message: Option<Message>,
    ) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        match &method {
            Method::BasicConsumeOk(ok) => state.subscribed(core, &ok.consumer_tag),
            Method::BasicCancelOk(ok) => state.cancelled(&ok.consumer_tag),
            _ => {}
        }
        if matches!(method, Method::ChannelCloseOk(_)) {
            if let Some(reply) = self
                .channels
                .remove(&channel)
                .and_then(|state| state.closing)
            {
                let _ = reply.send(Ok((method, None)));
            }
            return;
        }
        let oldest = Owed::find(state.waiting.iter().map(|(owed, _)| owed), &method);
        let waiter = oldest.and_then(|at| state.waiting.remove(at));
        match waiter.map(|(_, waiter)| waiter) {
            Some(Waiter::Open(reply)) => {
                let shared = state.shared.clone();
                if reply.send(Ok(shared.clone())).is_err() {
                    self.close_channel(core, &shared, None); // nobody waits for it any more
                }
            }
            Some(Waiter::Answer(reply)) => _ = reply.send(Ok((method, message))),
            Some(Waiter::Nobody) | None => {}
        }
    }

    pub(super) fn content(
        &mut self,
        core: &mut Core,
        channel: ChannelId,
        method: Method,
        message: Message,
    ) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        match method {
            Method::BasicDeliver(deliver) => match state.consumers.get_mut(&deliver.consumer_tag) {
                Some(inbox) => {
                    if let Err(tag) = inbox.push(deliver, message, core.position()) {
                        // The consumer was dropped and its cancel has not been answered yet. CONS-14
                        let _ = core.send(
                            channel,
                            BasicReject {
                                delivery_tag: tag,
                                requeue: true,
                            },
                        );
                    }
                    if let Some(queue) = inbox.full() {
                        trace!(consumer = %inbox.tag, "the queue of a consumer is full: the socket is not read");
                        self.shared.set_in_the_way(Some(inbox.tag.clone()));
                        self.full = Some(queue);
                    }
                }
                None => {
                    debug!(consumer = %deliver.consumer_tag, "a delivery for a consumer that is not here");
                }
            },
            Method::BasicReturn(reason) => {
                returned(&state.shared, Returned { reason, message });
            }
            _ => {}
        }
    }

    pub(super) fn method(&mut self, channel: ChannelId, method: Method) {
        match method {
            Method::BasicAck(ack) => {
                self.confirmed(channel, ack.delivery_tag, ack.multiple, Confirm::Ack);
            }
            Method::BasicNack(nack) => {
                self.confirmed(channel, nack.delivery_tag, nack.multiple, Confirm::Nack);
            }
            Method::BasicCancel(cancel) => {
                // CONS-18: not answered, since no-wait is set; the consumer ends with an error that says so.
                let state = self.channels.get_mut(&channel);
                if let Some(inbox) =
                    state.and_then(|state| state.consumers.remove(&cancel.consumer_tag))
                {
                    inbox.end(ConsumerEnd::Cancelled);
                }
            }
            Method::ConnectionBlocked(ConnectionBlocked { reason }) => {
                warn!(%reason, "the broker blocks publishers");
                self.shared.blocked.send_replace(Some(reason));
            }
            Method::ConnectionUnblocked(_) => _ = self.shared.blocked.send_replace(None),
            method => debug!(%channel, %method, "nothing to do"),
        }
    }

    pub(super) fn confirmed(
        &mut self,
        channel: ChannelId,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Confirm,
    ) {
        let Some(confirms) = self
            .channels
            .get_mut(&channel)
            .and_then(|state| state.confirms.as_mut())
        else {
            return;
        };
        if multiple {
            for confirming in confirms.settle_through(tag) {
                confirming.tell(Ok(outcome)); // CONF-4
            }
        } else if let Ok(confirming) = confirms.settle_one(tag) {
            confirming.tell(Ok(outcome));
        }
    }

    /// Everyone who waits hears why, and so does everyone who asks later. CHAN-10, CONF-8
    pub(super) fn channel_closed(&mut self, channel: ChannelId, cause: &Cause) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let _ = state.shared.cause.set(cause.clone());
        state.end(&Error::ChannelClosed(cause.clone()));
        if !matches!(cause, Cause::ClosedHere | Cause::Violation(_)) {
            self.channels.remove(&channel); // else the close-ok is still owed
        }
    }

    pub(super) fn closed(&mut self, cause: Cause) {
        let cause = self.shared.cause.get_or_init(|| cause).clone();
        let error = Error::ConnectionClosed(cause);
        if let Some(opening) = self.opening.take() {
            let _ = opening.send(Err(error.clone()));
        }
        for (_, mut state) in std::mem::take(&mut self.channels) {
            state.end(&error);
            if let Some(reply) = state.closing {
                let _ = reply.send(Err(error.clone()));
            }
        }
        self.stop_listening();
        while let Ok(queued) = self.commands.try_recv() {
            queued.command.fail(&error);
        }
    }
}

impl ChannelState {
    /// Whoever dropped the consumer before this had to wait for it. CONS-16
    fn subscribed(&mut self, core: &mut Core, tag: &ConsumerTag) {
        let Some(inbox) = self.consumers.get_mut(tag) else {
            return;
        };
        if inbox.stage == InboxStage::Asked {
            inbox.stage = InboxStage::On;
            if inbox.is_abandoned() {
                self.cancel(core, tag.clone());
            }
        }
    }

    /// CONS-13: no delivery follows. The tag may be in use again by now.
    fn cancelled(&mut self, tag: &ConsumerTag) {
        if let Entry::Occupied(inbox) = self.consumers.entry(tag.clone())
            && inbox.get().stage == InboxStage::Cancelling
        {
            inbox.remove().end(ConsumerEnd::Asked);
        }
    }

    fn end(&mut self, error: &Error) {
        for (_, waiter) in self.waiting.drain(..) {
            match waiter {
                Waiter::Open(reply) => _ = reply.send(Err(error.clone())),
                Waiter::Answer(reply) => _ = reply.send(Err(error.clone())),
                Waiter::Nobody => {}
            }
        }
        for (_, inbox) in std::mem::take(&mut self.consumers) {
            inbox.end(ConsumerEnd::Failed(error.clone()));
        }
        for confirming in self.confirms.iter_mut().flat_map(Ledger::drain) {
            confirming.tell(Err(error.clone()));
        }
        *self.shared.returns() = None;
    }
}

/// Hands a returned message to whoever wants to know.
fn returned(channel: &ChannelShared, returned: Returned) {
    if let Some(returns) = &*channel.returns() {
        returns.push(returned);
    } else {
        debug!("a message was returned and nobody listens for it");
    }
}
