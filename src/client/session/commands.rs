//! # Commands: what users ask for becomes a method, and whoever waits is written down
//!
//! ```text
//! Call     core.send ─────────── Ok ─▶ waiting += (what it is owed, who asked)
//! Publish  core.send_content ─── Ok ─▶ confirms += who asked; its number is the next (CONF-9)
//! Consume  consumers += inbox ───────▶ core.send                  this way round (CONS-4)
//!                            └── Err ▶ nothing was sent, and whoever asked hears which rule it would have broken
//! ```
//!
//! Somebody who stops waiting stays in the book. The reply will come all the same, and without its entry it would be
//! given to the next who waits on that channel; with it, it is dropped (METH-6).
//!
//! Read next: `events`. Explained in `docs/05-channels.md`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::sync::oneshot;
use tracing::debug;

use super::{
    super::{
        error::Error,
        inbox::{ConsumerEnd, Inbox, InboxStage},
        publish::Confirming,
    },
    Answer, ChannelShared, ChannelState, Command, Opening, Publish, Session, Waiter,
};
use crate::{
    codec::{
        BasicCancel, BasicConsume, BasicReject, ChannelOpen, ConsumerTag, DeliveryTag, Method,
        ReplyCode,
    },
    protocol::{CloseReason, Connection as Core, Ledger, Owed, Violation},
};

impl Session {
    pub(super) fn open_channel(&mut self, core: &mut Core, reply: Opening) {
        match core.open_channel() {
            Ok(id) => {
                let shared = ChannelShared {
                    id,
                    cause: OnceLock::new(),
                    returns: Mutex::new(None),
                };
                let open = ChannelOpen::default().into();
                let waiting = Owed::by(&open).map(|owed| (owed, Waiter::Open(reply)));
                let waiting = waiting.into_iter().collect();
                let (consumers, confirms) = (BTreeMap::new(), None);
                let shared = Arc::new(shared);
                self.channels.insert(
                    id,
                    ChannelState {
                        shared,
                        waiting,
                        closing: None,
                        consumers,
                        confirms,
                    },
                );
            }
            Err(violation) => {
                let error = self
                    .shared
                    .cause
                    .get()
                    .map_or_else(|| violation.into(), |_| self.shared.over());
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Makes a consumer known before its basic.consume leaves (CONS-4). A tag is free again once its cancel is on the
    /// way; before that the broker would close the whole connection (CONS-2).
    pub(super) fn subscribe(
        &mut self,
        channel: &Arc<ChannelShared>,
        inbox: Inbox,
    ) -> Result<(), Error> {
        let state = self.state(channel)?;
        let tag = &inbox.tag;
        let used = state.consumers.get(tag);
        if used.is_some_and(|used| used.stage != InboxStage::Cancelling) {
            let (code, id) = (ReplyCode::NOT_ALLOWED, BasicConsume::ID);
            let text = format!("consumer tag {tag} is in use on this channel");
            return Err(Violation::ours(code, channel.id, id, text).into());
        }
        if let Some(cancelled) = state.consumers.insert(tag.clone(), inbox) {
            cancelled.end(ConsumerEnd::Asked); // its cancel-ok is under way, and will find the new one
        }
        Ok(())
    }

    pub(super) fn call(
        &mut self,
        core: &mut Core,
        channel: &Arc<ChannelShared>,
        method: &Method,
        reply: oneshot::Sender<Answer>,
    ) {
        let sent = self
            .state(channel)
            .and_then(|state| Ok((state, core.send(channel.id, method.clone())?)));
        match sent {
            Ok((state, ())) => {
                if matches!(method, Method::ConfirmSelect(_)) && state.confirms.is_none() {
                    state.confirms = Some(Ledger::new()); // CONF-2: the next publish is number 1
                }
                if let Method::BasicCancel(cancel) = method {
                    state.cancels(&cancel.consumer_tag);
                }
                let owed = Owed::by(method).map(|owed| (owed, Waiter::Answer(reply)));
                state.waiting.extend(owed);
            }
            Err(error) => _ = reply.send(Err(error)),
        }
    }

    pub(super) fn publish(&mut self, core: &mut Core, publish: Publish) {
        let Publish {
            channel,
            method,
            properties,
            body,
            confirm,
        } = publish;
        let fail = |confirm: Confirming, error: Error| {
            // The channel closed in between; its users hear why at their next call.
            debug!(%error, "a publish was not sent");
            confirm.tell(Err(error));
        };
        let heard = !matches!(confirm, Confirming::Nobody);
        let state = match self.state(&channel) {
            Ok(state) if heard && state.confirms.is_none() => {
                return fail(confirm, Error::NotConfirming);
            }
            Ok(state) => state,
            Err(error) => return fail(confirm, error),
        };
        match core.send_content(channel.id, method, properties, &body) {
            Ok(()) => {
                if let Some(confirms) = &mut state.confirms {
                    confirms.push(confirm); // CONF-9: counted in the step that wrote it
                }
            }
            Err(violation) => fail(confirm, violation.into()),
        }
    }

    pub(super) fn close_channel(
        &mut self,
        core: &mut Core,
        channel: &Arc<ChannelShared>,
        reply: Option<oneshot::Sender<Answer>>,
    ) {
        let state = match self.state(channel) {
            Ok(state) => state,
            Err(error) => return reply.map_or((), |reply| _ = reply.send(Err(error))),
        };
        match (
            core.close_channel(channel.id, &CloseReason::goodbye()),
            reply,
        ) {
            (Ok(()), reply) => state.closing = reply,
            (Err(violation), Some(reply)) => _ = reply.send(Err(violation.into())),
            (Err(_), None) => {}
        }
    }

    pub(super) fn drop_consumer(
        &mut self,
        core: &mut Core,
        channel: &Arc<ChannelShared>,
        consumer_tag: ConsumerTag,
        unseen: Vec<DeliveryTag>,
    ) {
        let Ok(state) = self.state(channel) else {
            return;
        };
        for delivery_tag in unseen {
            let _ = core.send(
                channel.id,
                BasicReject {
                    delivery_tag,
                    requeue: true,
                },
            );
        }
        // CONS-16: a cancel may not overtake the consume-ok, so one that is still due sees to it. And the tag may be
        // that of another consumer by now.
        let gone = |inbox: &Inbox| inbox.stage == InboxStage::On && inbox.is_abandoned();
        if state.consumers.get(&consumer_tag).is_some_and(gone) {
            state.cancel(core, consumer_tag);
        }
    }
}

impl ChannelState {
    /// Cancels a consumer that nobody listens to any more.
    pub(super) fn cancel(&mut self, core: &mut Core, consumer_tag: ConsumerTag) {
        self.cancels(&consumer_tag);
        let no_wait = false;
        let cancel = Method::from(BasicCancel {
            consumer_tag,
            no_wait,
        });
        let owed = Owed::by(&cancel).map(|owed| (owed, Waiter::Nobody));
        if core.send(self.shared.id, cancel).is_ok() {
            self.waiting.extend(owed);
        }
    }

    fn cancels(&mut self, consumer_tag: &ConsumerTag) {
        if let Some(inbox) = self.consumers.get_mut(consumer_tag) {
            inbox.stage = InboxStage::Cancelling;
        }
    }
}

impl Command {
    /// Tells whoever asked that it will not be done.
    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::OpenChannel { reply } => _ = reply.send(Err(error.clone())),
            Self::Call { reply, .. }
            | Self::CloseChannel {
                reply: Some(reply), ..
            } => {
                _ = reply.send(Err(error.clone()));
            }
            Self::Consume { reply, inbox, .. } => {
                inbox.end(ConsumerEnd::Failed(error.clone()));
                let _ = reply.send(Err(error.clone()));
            }
            Self::Publish(publish) => publish.confirm.tell(Err(error.clone())),
            Self::Send { .. }
            | Self::CloseChannel { .. }
            | Self::DropConsumer { .. }
            | Self::Close => {}
        }
    }
}
