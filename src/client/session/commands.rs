//! What users ask for: a command becomes a method, and whoever waits for the reply is written down.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::sync::oneshot;
use tracing::debug;

use super::{
    super::{
        error::Error,
        sink::{ConsumerEnd, Sink, SinkStage},
    },
    Answer, ChannelShared, Command, Confirming, Lane, Opening, Publish, Session, Waiter,
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
                let (consumers, confirms) = (HashMap::new(), None);
                let shared = Arc::new(shared);
                self.lanes.insert(
                    id,
                    Lane {
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
        sink: Sink,
    ) -> Result<(), Error> {
        let lane = self.lane(channel)?;
        let tag = &sink.tag;
        let used = lane.consumers.get(tag);
        if used.is_some_and(|used| used.stage != SinkStage::Cancelling) {
            let (code, id) = (ReplyCode::NOT_ALLOWED, BasicConsume::ID);
            let text = format!("consumer tag {tag} is in use on this channel");
            return Err(Violation::ours(code, channel.id, id, text).into());
        }
        lane.consumers.insert(tag.clone(), sink);
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
            .lane(channel)
            .and_then(|lane| Ok((lane, core.send(channel.id, method.clone())?)));
        match sent {
            Ok((lane, ())) => {
                if matches!(method, Method::ConfirmSelect(_)) && lane.confirms.is_none() {
                    lane.confirms = Some(Ledger::new()); // CONF-2: the next publish is number 1
                }
                if let Method::BasicCancel(cancel) = method {
                    lane.cancels(&cancel.consumer_tag);
                }
                let owed = Owed::by(method).map(|owed| (owed, Waiter::Answer(reply)));
                lane.waiting.extend(owed);
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
            if let Some(confirm) = confirm {
                let _ = confirm.send(Err(error));
            } else {
                // The channel closed in between; its users hear why at their next call.
                debug!(%error, "a publish was not sent");
            }
        };
        let lane = match self.lane(&channel) {
            Ok(lane) if confirm.is_some() && lane.confirms.is_none() => {
                return fail(confirm, Error::NotConfirming);
            }
            Ok(lane) => lane,
            Err(error) => return fail(confirm, error),
        };
        match core.send_content(channel.id, method, properties, &body) {
            Ok(()) => {
                if let Some(confirms) = &mut lane.confirms {
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
        let lane = match self.lane(channel) {
            Ok(lane) => lane,
            Err(error) => return reply.map_or((), |reply| _ = reply.send(Err(error))),
        };
        match (
            core.close_channel(channel.id, &CloseReason::goodbye()),
            reply,
        ) {
            (Ok(()), reply) => lane.closing = reply,
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
        let Ok(lane) = self.lane(channel) else { return };
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
        let gone = |sink: &Sink| sink.stage == SinkStage::On && sink.is_abandoned();
        if lane.consumers.get(&consumer_tag).is_some_and(gone) {
            lane.cancel(core, consumer_tag);
        }
    }
}

impl Lane {
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
        if let Some(sink) = self.consumers.get_mut(consumer_tag) {
            sink.stage = SinkStage::Cancelling;
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
            Self::Consume { reply, sink, .. } => {
                sink.end(ConsumerEnd::Failed(error.clone()));
                let _ = reply.send(Err(error.clone()));
            }
            Self::Publish(publish) => {
                if let Some(confirm) = publish.confirm {
                    let _ = confirm.send(Err(error.clone()));
                }
            }
            Self::Send { .. }
            | Self::CloseChannel { .. }
            | Self::DropConsumer { .. }
            | Self::Close => {}
        }
    }
}
