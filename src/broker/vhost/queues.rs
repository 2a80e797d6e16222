//! # Class queue: make, delete, purge, bind, unbind
//!
//! ```text
//! queue.declare  "jobs"             none there: made; one like it: declare-ok; another: 406 (QUEUE-4)
//!                "jobs" passive     there: declare-ok with its counts; none: 404 (QUEUE-5)
//!                ""                 made as amq.gen-TOKEN (QUEUE-1)
//! queue.bind     ""                 the queue that this channel declared last, whatever its name (QUEUE-12)
//! any of them    somebody's own     an exclusive queue of another connection: 405 (QUEUE-6)
//! ```
//!
//! A name can be deleted and declared again, and is then another queue. What was delivered from the first must not be
//! put back into the second, so each queue also has a number that no other ever gets (ACK-9).
//!
//! Read next: `publish`. Explained in `docs/08-routing.md`.

use std::time::Instant;

use super::{
    ConnectionId, Lane, Vhost,
    clients::Subscription,
    exchanges::{not_default, stripped},
};
use crate::{
    broker::{
        account::shrink,
        arguments::{self, Settings},
        exchange::Destination,
        fault::{Fault, Resource},
        queue::{Declaration, Queue, QueueId},
    },
    codec::{
        QueueBind, QueueBindOk, QueueDeclare, QueueDeclareOk, QueueDelete, QueueDeleteOk,
        QueuePurge, QueuePurgeOk, QueueUnbind, QueueUnbindOk, ReplyCode, ShortString,
    },
};

impl Vhost {
    pub(super) fn queue_declare(
        &mut self,
        lane: Lane,
        declare: QueueDeclare,
        now: Instant,
    ) -> Result<(), Fault> {
        let name = stripped(&declare.queue);
        let no_wait = declare.no_wait;
        let ok = if Self::is_reply_name(&name) {
            self.declare_reply_name(name)?
        } else if declare.passive {
            self.usable_queue(lane.connection, &name)?;
            self.declare_ok(name, now)
        } else {
            let name = self.ensure_queue(lane.connection, name, declare, now)?;
            self.declare_ok(name, now)
        };
        self.clients.channel(lane)?.last_queue = Some(ok.queue.clone());
        self.clients.reply(lane, no_wait, ok);
        Ok(())
    }

    /// A snapshot: messages that are ready, and all consumers. QUEUE-10
    fn declare_ok(&mut self, queue: ShortString, now: Instant) -> QueueDeclareOk {
        if let Some(found) = self.queues.get_mut(&queue) {
            found.touch(now);
        }
        self.pump(&queue, now);
        let stats = self.queues.get(&queue).map(Queue::stats);
        let stats = stats.unwrap_or_default();
        QueueDeclareOk {
            queue,
            message_count: count(stats.ready),
            consumer_count: count(stats.consumers),
        }
    }

    /// Compares with the queue of this name, or makes it. QUEUE-1, QUEUE-3, QUEUE-4
    fn ensure_queue(
        &mut self,
        connection: ConnectionId,
        name: ShortString,
        declare: QueueDeclare,
        now: Instant,
    ) -> Result<ShortString, Fault> {
        let server_named = name.is_empty();
        let name = if server_named {
            self.names.name("amq.gen-")
        } else {
            self.queue_resource(&name).refuse_reserved()?;
            name
        };
        let resource = self.queue_resource(&name);
        if let Some(existing) = self.queues.get(&name) {
            same_queue(existing, connection, &declare, &resource)?;
            return Ok(name);
        }
        let settings = Settings::read(&declare.arguments, &resource)?;
        if settings.quorum {
            fit_for_quorum(&declare, server_named, &resource)?;
        }
        let share = self.entries.take_entry(&[&name], &declare.arguments)?;
        let declaration = Declaration {
            durable: declare.durable,
            owner: declare.exclusive.then_some(connection),
            auto_delete: declare.auto_delete,
            arguments: declare.arguments,
            settings,
        };
        let id = QueueId {
            name: name.clone(),
            number: self.next_number(),
        };
        self.insert_queue(Queue::new(id, declaration, share, now));
        Ok(name)
    }

    fn insert_queue(&mut self, queue: Queue) {
        let (name, owner) = (queue.id.name.clone(), queue.declaration.owner);
        if let Some(owner) = owner.and_then(|owner| self.clients.connection(owner)) {
            owner.exclusive_queues.insert(name.clone());
        }
        self.queues.insert(name, queue);
    }

    /// Takes a queue away with its bindings, and returns what was in it. Who consumed from it is still to be told.
    pub(super) fn remove_queue(&mut self, name: &ShortString) -> Option<Queue> {
        let mut queue = self.queues.remove(name)?;
        shrink(&mut self.queues);
        self.timers.cancel(&mut queue);
        self.exchanges.unbind_all(Destination::Queue(name.clone()));
        let owner = queue.declaration.owner;
        if let Some(owner) = owner.and_then(|owner| self.clients.connection(owner)) {
            owner.exclusive_queues.remove(name);
        }
        Some(queue)
    }

    /// A consumer has gone, and an auto-delete queue with its last one. QUEUE-9
    pub(super) fn unsubscribe(&mut self, gone: &Subscription, now: Instant) {
        let Some(queue) = self.queues.get_mut(&gone.queue) else {
            return;
        };
        queue.consumers.remove(gone.consumer);
        if !queue.consumers.is_empty() {
            return;
        }
        if queue.declaration.auto_delete {
            self.remove_queue(&gone.queue);
        } else {
            queue.touch(now);
            self.timers.set(queue);
        }
    }

    /// Deleting one that is not there is no error. QUEUE-13, QUEUE-14
    pub(super) fn queue_delete(
        &mut self,
        lane: Lane,
        delete: &QueueDelete,
        now: Instant,
    ) -> Result<(), Fault> {
        let name = self.meant_queue(lane, &delete.queue)?;
        self.pump(&name, now);
        if self.queues.contains_key(&name) {
            let resource = self.queue_resource(&name);
            let stats = self.usable_queue(lane.connection, &name)?.stats();
            if delete.if_unused && stats.consumers > 0 {
                return Err(Fault::precondition(format!("{resource} in use")));
            }
            if delete.if_empty && stats.ready > 0 {
                return Err(Fault::precondition(format!("{resource} not empty")));
            }
        }
        let queue = self.remove_queue(&name);
        let ok = QueueDeleteOk {
            message_count: count(queue.as_ref().map_or(0, |queue| queue.stats().ready)),
        };
        self.clients.reply(lane, delete.no_wait, ok);
        for consumer in queue.iter().flat_map(|queue| queue.consumers.iter()) {
            self.clients.forget(consumer);
        }
        Ok(())
    }

    /// QUEUE-15
    pub(super) fn queue_purge(
        &mut self,
        lane: Lane,
        purge: &QueuePurge,
        now: Instant,
    ) -> Result<(), Fault> {
        let name = self.meant_queue(lane, &purge.queue)?;
        self.pump(&name, now);
        let queue = self.usable_queue(lane.connection, &name)?;
        let ok = QueuePurgeOk {
            message_count: count(queue.purge()),
        };
        self.clients.reply(lane, purge.no_wait, ok);
        Ok(())
    }

    pub(super) fn queue_bind(&mut self, lane: Lane, bind: QueueBind) -> Result<(), Fault> {
        let queue = self.meant_queue(lane, &bind.queue)?;
        let exchange = stripped(&bind.exchange);
        not_default(&exchange)?;
        self.existing_exchange(&exchange)?;
        self.usable_queue(lane.connection, &queue)?;
        self.bindable(&exchange, &bind.arguments)?;
        let key = meant_key(&bind.queue, bind.routing_key, &queue);
        let share = self.entries.take_entry(&[&queue, &key], &bind.arguments)?;
        let arguments = bind.arguments;
        let queue = Destination::Queue(queue);
        self.exchanges.bind(&exchange, queue, key, arguments, share);
        self.clients.reply(lane, bind.no_wait, QueueBindOk {});
        Ok(())
    }

    /// Undoing a binding that is not there is no error (QUEUE-13); RabbitMQ even lets one through that belongs to the
    /// exclusive queue of somebody else.
    pub(super) fn queue_unbind(&mut self, lane: Lane, unbind: &QueueUnbind) -> Result<(), Fault> {
        let queue = self.meant_queue(lane, &unbind.queue)?;
        let exchange = stripped(&unbind.exchange);
        not_default(&exchange)?;
        let key = meant_key(&unbind.queue, unbind.routing_key.clone(), &queue);
        let destination = Destination::Queue(queue);
        self.exchanges
            .unbind(&exchange, &destination, &key, &unbind.arguments);
        self.clients.send(lane, QueueUnbindOk {});
        Ok(())
    }

    /// An empty name means the queue that this channel declared last. QUEUE-12
    pub(super) fn meant_queue(
        &mut self,
        lane: Lane,
        name: &ShortString,
    ) -> Result<ShortString, Fault> {
        if !name.is_empty() {
            return Ok(stripped(name));
        }
        let last = self.clients.channel(lane)?.last_queue.clone();
        last.ok_or_else(|| Fault::new(ReplyCode::NOT_FOUND, "no previously declared queue"))
    }

    /// The queue, or 404, or 405 if it is exclusive to another connection. QUEUE-6, QUEUE-17
    pub(super) fn usable_queue(
        &mut self,
        connection: ConnectionId,
        name: &ShortString,
    ) -> Result<&mut Queue, Fault> {
        let resource = self.queue_resource(name);
        let queue = self.queues.get_mut(name);
        let queue = queue.ok_or_else(|| Fault::not_found(&resource))?;
        match queue.declaration.owner {
            Some(owner) if owner != connection => Err(Fault::locked(&resource)),
            _ => Ok(queue),
        }
    }
}

/// With the last queue meant and no key given, the key is the name of that queue. QUEUE-12
fn meant_key(name: &ShortString, key: ShortString, queue: &ShortString) -> ShortString {
    if name.is_empty() && key.is_empty() {
        queue.clone()
    } else {
        key
    }
}

/// The order is RabbitMQ's: the first difference is the one that is reported. QUEUE-4, QUEUE-8
fn same_queue(
    existing: &Queue,
    connection: ConnectionId,
    declare: &QueueDeclare,
    queue: &Resource,
) -> Result<(), Fault> {
    let current = &existing.declaration;
    if current.owner != declare.exclusive.then_some(connection) {
        return Err(Fault::locked(queue));
    }
    arguments::equal("durable", &current.durable, &declare.durable, queue)?;
    let (auto_delete, received) = (current.auto_delete, declare.auto_delete);
    arguments::equal("auto_delete", &auto_delete, &received, queue)?;
    arguments::equal_queue_arguments(&current.arguments, &declare.arguments, queue)
}

/// RabbitMQ: a quorum queue is durable, has a name of its own and belongs to everybody.
fn fit_for_quorum(
    declare: &QueueDeclare,
    server_named: bool,
    queue: &Resource,
) -> Result<(), Fault> {
    if server_named {
        let why = "Cannot declare a server-named queue for type rabbit_quorum_queue";
        return Err(Fault::precondition(why));
    }
    for (property, unfit) in [
        ("non-durable", !declare.durable),
        ("exclusive-owner", declare.exclusive),
        ("auto-delete", declare.auto_delete),
    ] {
        if unfit {
            let why = format!("invalid property '{property}' for {queue}");
            return Err(Fault::precondition(why));
        }
    }
    Ok(())
}

/// A number of messages as a reply carries it.
pub(super) fn count(messages: usize) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}
