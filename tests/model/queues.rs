//! A reference model of queues, and the broker's brain that it is compared with.
//!
//! A queue of the model is a list of numbers in the order in which they came to it. What is handed out comes off its
//! head; what is returned is put back among those that are there, by its number; what one of the two queues loses by a
//! reject comes to the other as something new (DLX-1); and that is all. The [`Vhost`] may choose *who* gets the head,
//! so the model does not predict it: it checks that whoever got it was allowed to, and that nothing is left lying that
//! somebody could have taken.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use amqp_rpc::{
    broker::{
        NameSource, QueueStats, VhostOptions,
        vhost::{ConnectionId, Output, Vhost},
    },
    codec::*,
    protocol::Message,
    short,
};

const QUEUES: [ShortString; 2] = [short!("a"), short!("b")];

/// The first queue sends what is rejected to the second, which lets it go. DLX-1
const DYING: usize = 0;
const DEAD: usize = 1;

/// Two channels on each of two connections. The first one has announced `consumer_cancel_notify`. CONS-17
const LANES: [(u64, u16); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

/// The connection that publishes: it never makes a mistake.
const PUBLISHER: (u64, u16) = (9, 1);

/// Lanes and queues are indices, to be taken modulo how many there are.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Publish(u8),
    Consume {
        lane: u8,
        queue: u8,
        no_ack: bool,
    },
    /// One of the consumers of the lane.
    Cancel(u8, u8),
    Get {
        lane: u8,
        queue: u8,
        no_ack: bool,
    },
    /// One of the deliveries that the lane holds, perhaps with all before it.
    Settle {
        lane: u8,
        which: u8,
        multiple: bool,
        how: How,
    },
    /// Everything that the lane holds. ACK-5, ACK-10
    SettleAll(u8, How),
    Recover(u8),
    Qos {
        lane: u8,
        count: u8,
        global: bool,
    },
    Purge(u8),
    /// A queue is deleted and declared again: what was handed out of the old one belongs to none.
    Delete(u8),
    Close(u8),
    Disconnect(u8),
    Mistake(u8, Mistake),
}

/// What becomes of a delivery.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum How {
    Ack,
    Drop,
    Requeue,
}

/// What costs a channel or a connection, and requeues all that it holds. CHAN-11
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mistake {
    /// ACK-3
    UnknownTag,
    /// ACK-6
    TagZero,
    /// QUEUE-17
    NoQueue,
    /// QOS-5
    PrefetchSize,
    /// CONS-2
    ConsumerTagInUse,
}

// ---- the model ---------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    /// Its place among all that ever came to a queue.
    number: u64,
    /// What it says: its number when it was published.
    body: u64,
    redelivered: bool,
}

/// What is ready, in order.
#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Item>,
    /// How often it was deleted: what was handed out before is not its own any more. ACK-9
    generation: u32,
}

impl Queue {
    /// Back to its old place. CONS-20
    fn put_back(&mut self, item: Item) {
        let at = self
            .ready
            .partition_point(|other| other.number < item.number);
        let redelivered = true; // CONS-19
        self.ready.insert(
            at,
            Item {
                redelivered,
                ..item
            },
        );
    }
}

#[derive(Debug)]
struct Consumer {
    queue: usize,
    no_ack: bool,
    prefetch: usize,
    /// Consumers hear of the end of their queue in this order.
    age: u64,
}

/// A delivery that is not settled.
#[derive(Debug)]
struct Held {
    tag: u64,
    item: Item,
    queue: usize,
    generation: u32,
    /// None for a get, which no prefetch limits. QOS-6
    consumer: Option<String>,
}

/// What a channel has; a closed one has this again. CHAN-15
#[derive(Debug, Default)]
struct Lane {
    consumers: BTreeMap<String, Consumer>,
    held: Vec<Held>,
    /// Delivery tags so far, those that need no ack as well. ACK-1, CONS-7
    tags: u64,
    prefetch: usize,
    shared: usize,
}

impl Lane {
    /// QOS-1, QOS-2, QOS-3, QOS-6, QOS-8
    fn has_room(&self, tag: &str, consumer: &Consumer) -> bool {
        let from_consumers = self.held.iter().filter(|held| held.consumer.is_some());
        let own = self
            .held
            .iter()
            .filter(|held| held.consumer.as_deref() == Some(tag));
        let below = |count: usize, limit: usize| limit == 0 || count < limit;
        consumer.no_ack
            || below(own.count(), consumer.prefetch) && below(from_consumers.count(), self.shared)
    }
}

/// The broker's brain with its model beside it.
pub(crate) struct World {
    vhost: Vhost,
    now: Instant,
    queues: [Queue; 2],
    lanes: [Lane; 4],
    published: u64,
    named: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let options = VhostOptions {
            names: NameSource::Numbered(0),
            max_unsent_octets: usize::MAX, // what a slow reader gets has tests of its own
            ..VhostOptions::default()
        };
        let mut world = Self {
            vhost: Vhost::new(short!("/"), options),
            now: Instant::now(),
            queues: Default::default(),
            lanes: Default::default(),
            published: 0,
            named: 0,
        };
        for connection in [1, 2, PUBLISHER.0] {
            world.connect(connection);
        }
        for queue in 0..QUEUES.len() {
            world.declare(queue);
        }
        world
    }

    fn connect(&mut self, connection: u64) {
        let id = ConnectionId(connection);
        self.vhost.connect(id, short!("guest"), connection == 1);
        for channel in [1, 2] {
            self.vhost.open_channel(id, ChannelId(channel));
        }
    }

    fn declare(&mut self, queue: usize) {
        let mut declare = QueueDeclare {
            queue: QUEUES[queue].clone(),
            ..QueueDeclare::default()
        };
        if queue == DYING {
            let arguments = &mut declare.arguments;
            arguments.insert(short!("x-dead-letter-exchange"), "");
            arguments.insert(short!("x-dead-letter-routing-key"), "b");
        }
        self.say(PUBLISHER, declare, &["9/1 queue.declare-ok"]);
    }

    /// Does it in both, and compares what comes out and what there is.
    pub(crate) fn act(&mut self, action: &Action) {
        match *action {
            Action::Publish(queue) => self.publish(usize::from(queue) % 2),
            Action::Consume {
                lane,
                queue,
                no_ack,
            } => {
                self.consume(usize::from(lane) % 4, usize::from(queue) % 2, no_ack);
            }
            Action::Cancel(lane, which) => self.cancel(usize::from(lane) % 4, which),
            Action::Get {
                lane,
                queue,
                no_ack,
            } => {
                self.get(usize::from(lane) % 4, usize::from(queue) % 2, no_ack);
            }
            Action::Settle {
                lane,
                which,
                multiple,
                how,
            } => {
                let lane = usize::from(lane) % 4;
                let held = &self.lanes[lane].held;
                if let Some(held) = held.get(usize::from(which) % held.len().max(1)) {
                    self.settle(lane, held.tag, multiple, how);
                }
            }
            Action::SettleAll(lane, how) => self.settle(usize::from(lane) % 4, 0, true, how),
            Action::Recover(lane) => self.recover(usize::from(lane) % 4),
            Action::Qos {
                lane,
                count,
                global,
            } => self.qos(usize::from(lane) % 4, count % 4, global),
            Action::Purge(queue) => self.purge(usize::from(queue) % 2),
            Action::Delete(queue) => self.delete(usize::from(queue) % 2),
            Action::Close(lane) => self.close(usize::from(lane) % 4),
            Action::Disconnect(connection) => self.disconnect(u64::from(connection) % 2 + 1),
            Action::Mistake(lane, mistake) => self.mistake(usize::from(lane) % 4, mistake),
        }
        self.compare();
    }

    /// Something new for a queue.
    fn arrive(&mut self, queue: usize, body: Option<u64>) {
        self.published += 1;
        self.queues[queue].ready.push_back(Item {
            number: self.published,
            body: body.unwrap_or(self.published),
            redelivered: false,
        });
    }

    fn publish(&mut self, queue: usize) {
        self.arrive(queue, None);
        let publish = BasicPublish {
            routing_key: QUEUES[queue].clone(),
            ..BasicPublish::default()
        };
        let message = Message::from(self.published.to_string());
        let (connection, channel) = (ConnectionId(PUBLISHER.0), ChannelId(PUBLISHER.1));
        self.vhost
            .publish(connection, channel, publish, message, self.now);
        self.hear(&[]);
    }

    fn consume(&mut self, lane: usize, queue: usize, no_ack: bool) {
        self.named += 1;
        let tag = format!("c{}", self.named);
        let consume = BasicConsume {
            queue: QUEUES[queue].clone(),
            consumer_tag: ConsumerTag(tag.as_str().try_into().unwrap()),
            no_ack,
            ..BasicConsume::default()
        };
        let prefetch = self.lanes[lane].prefetch; // QOS-2: that of now, whatever comes later
        let age = self.named;
        let consumer = Consumer {
            queue,
            no_ack,
            prefetch,
            age,
        };
        self.lanes[lane].consumers.insert(tag, consumer);
        self.reply(lane, consume, "basic.consume-ok"); // CONS-3: before the first delivery
    }

    fn cancel(&mut self, lane: usize, which: u8) {
        let consumers = &mut self.lanes[lane].consumers;
        let which = usize::from(which) % consumers.len().max(1);
        let tag = consumers.keys().nth(which).cloned().unwrap_or_default(); // CONS-15: or one that nobody has
        consumers.remove(&tag); // CONS-13: what it holds stays
        let cancel = BasicCancel {
            consumer_tag: ConsumerTag(tag.try_into().unwrap()),
            no_wait: false,
        };
        self.reply(lane, cancel, "basic.cancel-ok");
    }

    /// CONS-21
    fn get(&mut self, lane: usize, queue: usize, no_ack: bool) {
        let get = BasicGet {
            queue: QUEUES[queue].clone(),
            no_ack,
            ..BasicGet::default()
        };
        let (connection, channel) = LANES[lane];
        let ids = (ConnectionId(connection), ChannelId(channel));
        self.vhost.method(ids.0, ids.1, get.into(), self.now);
        let Some(item) = self.queues[queue].ready.pop_front() else {
            let empty = format!("{connection}/{channel} basic.get-empty");
            return self.hear(&[&empty]);
        };
        let left = self.queues[queue].ready.len();
        let Some((
            _,
            Output::Content {
                method: Method::BasicGetOk(ok),
                message,
                ..
            },
        )) = self.vhost.poll_output()
        else {
            panic!("{item:?} is there to be had");
        };
        assert_eq!(message.body(), item.body.to_string().as_bytes());
        assert_eq!(ok.redelivered, item.redelivered);
        assert_eq!(ok.message_count as usize, left);
        self.hold(lane, ok.delivery_tag, queue, item, no_ack, None);
    }

    fn settle(&mut self, lane: usize, tag: u64, multiple: bool, how: How) {
        let held = std::mem::take(&mut self.lanes[lane].held);
        let (settled, held) = held.into_iter().partition(|held| {
            held.tag == tag || multiple && (tag == 0 || held.tag < tag) // ACK-4, ACK-5
        });
        self.lanes[lane].held = held;
        match how {
            How::Ack => {}
            How::Drop => self.reject(settled),
            How::Requeue => self.requeue(settled),
        }
        let delivery_tag = DeliveryTag(tag);
        let requeue = how == How::Requeue;
        let method: Method = match how {
            How::Ack => BasicAck {
                delivery_tag,
                multiple,
            }
            .into(),
            _ if multiple => BasicNack {
                delivery_tag,
                multiple,
                requeue,
            }
            .into(),
            _ => BasicReject {
                delivery_tag,
                requeue,
            }
            .into(), // ACK-7
        };
        self.say(LANES[lane], method, &[]);
    }

    fn requeue(&mut self, held: Vec<Held>) {
        for held in held {
            let queue = &mut self.queues[held.queue];
            if queue.generation == held.generation {
                queue.put_back(held.item);
            }
        }
    }

    /// ACK-7, DLX-1: in the order of their delivery tags.
    fn reject(&mut self, held: Vec<Held>) {
        for held in held {
            if held.queue == DYING && held.generation == self.queues[DYING].generation {
                self.arrive(DEAD, Some(held.item.body));
            }
        }
    }

    /// ACK-10: the reply comes before the redeliveries.
    fn recover(&mut self, lane: usize) {
        let held = std::mem::take(&mut self.lanes[lane].held);
        self.requeue(held);
        self.reply(lane, BasicRecover { requeue: true }, "basic.recover-ok");
    }

    fn qos(&mut self, lane: usize, count: u8, global: bool) {
        let limit = if global {
            &mut self.lanes[lane].shared
        } else {
            &mut self.lanes[lane].prefetch
        };
        *limit = count.into();
        let qos = BasicQos {
            prefetch_count: count.into(),
            global,
            ..BasicQos::default()
        };
        self.reply(lane, qos, "basic.qos-ok");
    }

    /// QUEUE-15: those that somebody holds stay with them.
    fn purge(&mut self, queue: usize) {
        self.queues[queue].ready.clear();
        let purge = QueuePurge {
            queue: QUEUES[queue].clone(),
            ..QueuePurge::default()
        };
        self.say(PUBLISHER, purge, &["9/1 queue.purge-ok"]);
    }

    fn delete(&mut self, queue: usize) {
        self.queues[queue].ready.clear();
        self.queues[queue].generation += 1;
        let mut ended = Vec::new();
        for (lane, (connection, channel)) in self.lanes.iter_mut().zip(LANES) {
            lane.consumers.retain(|_, consumer| {
                if consumer.queue == queue && connection == 1 {
                    ended.push((consumer.age, format!("{connection}/{channel} basic.cancel")));
                }
                consumer.queue != queue
            });
        }
        ended.sort();
        let ended = ended.iter().map(|(_, line)| line.as_str());
        let expected: Vec<&str> = ["9/1 queue.delete-ok"].into_iter().chain(ended).collect();
        let delete = QueueDelete {
            queue: QUEUES[queue].clone(),
            ..QueueDelete::default()
        };
        self.say(PUBLISHER, delete, &expected);
        self.declare(queue);
    }

    /// Its consumers are gone before anything is put back: nothing goes to them. CHAN-11
    fn forget(&mut self, lanes: &[usize]) {
        for &lane in lanes {
            let Lane { held, .. } = std::mem::take(&mut self.lanes[lane]);
            self.requeue(held);
        }
    }

    fn close(&mut self, lane: usize) {
        let (connection, channel) = LANES[lane];
        self.forget(&[lane]);
        let ids = (ConnectionId(connection), ChannelId(channel));
        self.vhost.close_channel(ids.0, ids.1, self.now);
        self.hear(&[]);
        self.vhost.open_channel(ids.0, ids.1);
    }

    fn disconnect(&mut self, connection: u64) {
        self.forget(&lanes_of(connection));
        self.vhost.disconnect(ConnectionId(connection), self.now);
        self.hear(&[]);
        self.connect(connection);
    }

    fn mistake(&mut self, lane: usize, mistake: Mistake) {
        let consumer = self.lanes[lane].consumers.keys().next();
        let unknown = DeliveryTag(self.lanes[lane].tags + 1);
        let method: Method = match mistake {
            Mistake::UnknownTag => BasicAck {
                delivery_tag: unknown,
                multiple: true,
            }
            .into(),
            Mistake::TagZero => BasicReject::default().into(),
            Mistake::NoQueue => BasicGet {
                queue: short!("nowhere"),
                ..BasicGet::default()
            }
            .into(),
            Mistake::PrefetchSize => BasicQos {
                prefetch_size: 1,
                ..BasicQos::default()
            }
            .into(),
            Mistake::ConsumerTagInUse => {
                let Some(tag) = consumer else { return };
                let consumer_tag = ConsumerTag(tag.as_str().try_into().unwrap());
                BasicConsume {
                    queue: short!("a"),
                    consumer_tag,
                    ..BasicConsume::default()
                }
                .into()
            }
        };
        let code = match mistake {
            Mistake::UnknownTag | Mistake::TagZero => 406,
            Mistake::NoQueue => 404,
            Mistake::PrefetchSize => 540,
            Mistake::ConsumerTagInUse => 530,
        };
        let (connection, channel) = LANES[lane];
        if ReplyCode(code).scope() == Scope::Channel {
            self.forget(&[lane]);
            let close = format!("{connection}/{channel} channel.close {code}");
            self.say(LANES[lane], method, &[&close]);
            self.vhost
                .open_channel(ConnectionId(connection), ChannelId(channel));
        } else {
            self.forget(&lanes_of(connection));
            let close = format!("{connection} connection.close {code}");
            self.say(LANES[lane], method, &[&close]);
            self.connect(connection);
        }
    }

    /// A request, and its reply before anything else that comes of it.
    fn reply(&mut self, lane: usize, method: impl Into<Method>, reply: &str) {
        let (connection, channel) = LANES[lane];
        let reply = format!("{connection}/{channel} {reply}");
        self.say(LANES[lane], method, &[&reply]);
    }

    fn say(
        &mut self,
        (connection, channel): (u64, u16),
        method: impl Into<Method>,
        expected: &[&str],
    ) {
        let ids = (ConnectionId(connection), ChannelId(channel));
        self.vhost.method(ids.0, ids.1, method.into(), self.now);
        self.hear(expected);
    }

    /// First these, in this order, and then deliveries: each of them one that the model allows.
    fn hear(&mut self, expected: &[&str]) {
        let mut expected = expected.iter();
        while let Some((connection, output)) = self.vhost.poll_output() {
            let id = connection.0;
            let line = match output {
                Output::Content {
                    channel,
                    method: Method::BasicDeliver(deliver),
                    message,
                } => {
                    assert_eq!(expected.len(), 0, "{deliver:?} came too early");
                    self.delivered((id, channel.0), &deliver, &message.unpack().message);
                    continue;
                }
                Output::Content {
                    channel, method, ..
                }
                | Output::Method { channel, method } => {
                    format!("{id}/{channel} {}", method.name())
                }
                Output::CloseChannel { channel, code, .. } => {
                    format!("{id}/{channel} channel.close {code}")
                }
                Output::CloseConnection { code, .. } => format!("{id} connection.close {code}"),
                Output::Blocked(_) | Output::Unblocked => format!("{id} is blocked, or no longer"),
            };
            assert_eq!(Some(&line.as_str()), expected.next());
        }
        assert_eq!(expected.next(), None, "it was not said");
    }

    /// CONS-10, CONS-11, CONS-12, CONS-19
    fn delivered(&mut self, lane: (u64, u16), deliver: &BasicDeliver, message: &Message) {
        let lane = LANES
            .iter()
            .position(|known| *known == lane)
            .expect("a lane that consumes");
        let tag = deliver.consumer_tag.0.to_string();
        let consumer = self.lanes[lane]
            .consumers
            .get(&tag)
            .expect("a consumer of this lane");
        assert!(
            self.lanes[lane].has_room(&tag, consumer),
            "{tag}: its prefetch is full"
        );
        let (queue, no_ack) = (consumer.queue, consumer.no_ack);
        let item = self.queues[queue]
            .ready
            .pop_front()
            .expect("a message that is ready");
        assert_eq!(message.body, item.body.to_string(), "the head of the queue");
        let headers = message.properties.headers.as_ref();
        let died = headers.is_some_and(|headers| headers.get("x-death").is_some());
        assert_eq!(died, item.body != item.number, "DLX-2");
        assert_eq!(deliver.redelivered, item.redelivered, "redelivered");
        assert_eq!(
            (&deliver.exchange, &deliver.routing_key),
            (&ShortString::EMPTY, &QUEUES[queue])
        );
        self.hold(lane, deliver.delivery_tag, queue, item, no_ack, Some(tag));
    }

    /// Counts a delivery and, if it has to be settled, writes it down.
    fn hold(
        &mut self,
        lane: usize,
        tag: DeliveryTag,
        queue: usize,
        item: Item,
        no_ack: bool,
        consumer: Option<String>,
    ) {
        let generation = self.queues[queue].generation;
        let lane = &mut self.lanes[lane];
        lane.tags += 1;
        assert_eq!(tag.0, lane.tags, "delivery tags count up by one");
        if !no_ack {
            let tag = tag.0;
            lane.held.push(Held {
                tag,
                item,
                queue,
                generation,
                consumer,
            });
        }
    }

    fn compare(&self) {
        for (index, queue) in self.queues.iter().enumerate() {
            let held = self.lanes.iter().flat_map(|lane| &lane.held);
            let held =
                held.filter(|held| held.queue == index && held.generation == queue.generation);
            let consumers = self.lanes.iter().flat_map(|lane| lane.consumers.values());
            let stats = QueueStats {
                ready: queue.ready.len(),
                unacked: held.count(),
                consumers: consumers.filter(|consumer| consumer.queue == index).count(),
            };
            let name = QUEUES[index].to_string();
            assert_eq!(self.vhost.queue(&name), Some(stats), "the vhost, the model");

            let idle = self.lanes.iter().any(|lane| {
                let mut consumers = lane.consumers.iter();
                consumers
                    .any(|(tag, consumer)| consumer.queue == index && lane.has_room(tag, consumer))
            });
            assert!(
                queue.ready.is_empty() || !idle,
                "{name}: somebody could have taken the head"
            );
        }
    }
}

fn lanes_of(connection: u64) -> Vec<usize> {
    let lanes = LANES.iter().enumerate();
    lanes
        .filter(|(_, (id, _))| *id == connection)
        .map(|(lane, _)| lane)
        .collect()
}
