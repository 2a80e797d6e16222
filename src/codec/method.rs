//! # The table: all 64 methods of AMQP 0-9-1
//!
//! ```text
//! id  struct    name   who sends it  what answers it     arguments in wire order; a bool is a bit
//! 10  BasicQos  "qos"  from Client   expects BasicQosOk  { prefetch_size: u32, prefetch_count: u16, global: bool }
//! ```
//!
//! A row is all that a method needs; `carries content` marks those that a header and bodies follow. Everything else is
//! derived from the row: the struct, the decoder, the encoder, the dump, the legality checks of the protocol core and
//! the generators of the tests. On a first reading skip the macro and begin at `methods! {`: the table is what to read.
//!
//! `reserved_*` fields mean nothing any more; RabbitMQ's extensions are marked *extension*. Three surprises:
//! `exchange.unbind-ok` is 51 and not 41, `queue.unbind` is 50 and has no no-wait (METH-5), and `channel.open-ok`
//! carries a long string that nobody reads (CHAN-5).
//!
//! Read next: [`properties`](super::properties). Explained in `docs/04-methods.md`; all rows: `docs/method-table.md`.

use bytes::BytesMut;

use super::{
    args::{ArgReader, ArgWriter, Argument, FieldReader, Reserved},
    domain::{ConsumerTag, DeliveryTag, LongString, MethodId, ReplyCode, Secret, ShortString},
    error::DecodeError,
    sink::{Count, Sink},
    table::FieldTable,
};

/// What a row becomes, shown on that of `basic.qos` at the top of this page:
///
/// ```text
/// pub struct BasicQos { pub prefetch_size: u32, pub prefetch_count: u16, pub global: bool }
/// impl BasicQos { pub const ID: MethodId = MethodId { class: 60, method: 10 }; }
/// enum Method     { .. BasicQos(BasicQos) .. }
/// METHODS         [ .. MethodRow { id: BasicQos::ID, name: "basic.qos", sender: Client, replies: &[BasicQosOk::ID], .. } .. ]
/// BasicQos::read  reader.field("prefetch_size", &mut method.prefetch_size)?; ..
/// BasicQos::write self.prefetch_size.write(w); self.prefetch_count.write(w); self.global.write(w);
/// ```
macro_rules! methods {
    ($(class $class:literal $class_name:literal { $(
        $(#[$doc:meta])*
        $id:literal $Name:ident $name:literal from $sender:ident
            $(expects $($reply:ident)|+)? $(carries $content:ident)?
            { $($field:ident: $ty:ty),* $(,)? }
    )* })*) => {
        $($(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Default)]
            pub struct $Name { $(
                #[doc = concat!("`", stringify!($field), "`, in this place on the wire.")]
                pub $field: $ty,
            )* }

            impl $Name {
                /// Class and method number.
                pub const ID: MethodId = MethodId { class: $class, method: $id };

                #[allow(unused_mut)] // many methods have no arguments
                fn read<F: FieldReader>(reader: &mut F) -> Result<Method, DecodeError> {
                    let mut method = Self::default();
                    $(reader.field(stringify!($field), &mut method.$field)?;)*
                    reader.finish()?;
                    Ok(Method::$Name(method))
                }

                #[inline]
                fn write<S: Sink>(&self, sink: &mut S) {
                    sink.put(&const { Self::ID.to_be_bytes() });
                    let mut writer = ArgWriter::new(sink);
                    $(self.$field.write(&mut writer);)*
                    writer.finish();
                }
            }

            impl From<$Name> for Method {
                fn from(method: $Name) -> Self {
                    Self::$Name(method)
                }
            }
        )*)*

        /// Any of the 64 methods.
        // Its tag is a whole word, so that it is moved in whole words: a method that was just read is moved often, and a
        // processor waits long for a word whose octets were written one by one.
        #[repr(u64)]
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)] // each variant holds the struct of the same name, which says what it is
        pub enum Method { $($( $Name($Name), )*)* }

        /// The table as data, in the order of the ids.
        pub static METHODS: &[MethodRow] = &[ $($( MethodRow {
            id: $Name::ID,
            name: concat!($class_name, ".", $name),
            sender: Sender::$sender,
            replies: &[$($($reply::ID),+)?],
            carries_content: $(methods!(@$content) ||)? false,
            fields: &[$((stringify!($field), stringify!($ty))),*],
        }, )*)* ];

        /// The same order as `METHODS`: an index into it.
        #[derive(Clone, Copy)]
        enum Index { $($( $Name, )*)* }

        #[allow(unused_variables)] // many methods have no arguments
        impl Method {
            /// Class and method number.
            pub const fn id(&self) -> MethodId {
                match self { $($( Self::$Name(_) => $Name::ID, )*)* }
            }

            const fn index(&self) -> usize {
                match self { $($( Self::$Name(_) => Index::$Name as usize, )*)* }
            }

            #[inline]
            fn read_arguments<F: FieldReader>(id: MethodId, reader: &mut F) -> Result<Self, DecodeError> {
                match (id.class, id.method) {
                    $($( ($class, $id) => $Name::read(reader), )*)*
                    _ => Err(DecodeError::UnknownMethod(id)),
                }
            }

            fn encode_to<S: Sink>(&self, sink: &mut S) {
                match self { $($( Self::$Name(method) => method.write(sink), )*)* }
            }

            /// Calls `see` with the name and the text of each argument that says something.
            fn each_field(
                &self,
                see: &mut dyn FnMut(&'static str, String, bool) -> std::fmt::Result,
            ) -> std::fmt::Result {
                match self { $($( Self::$Name(m) => { $(
                    if !m.$field.is_silent() && !<$ty as Argument>::IS_SECRET {
                        see(stringify!($field), m.$field.show(), <$ty as Argument>::IS_BIT)?;
                    }
                )* } )*)* }
                Ok(())
            }

            /// Whether every shortstr argument is UTF-8. TYPE-9
            pub fn is_utf8(&self) -> bool {
                match self { $($( Self::$Name(m) => true $(&& m.$field.is_utf8())*, )*)* }
            }
        }

        #[cfg(any(test, feature = "proptest"))]
        mod arbitrary {
            use proptest::prelude::*;

            use super::*;

            $($(
                impl Arbitrary for $Name {
                    type Parameters = ();
                    type Strategy = BoxedStrategy<Self>;
                    fn arbitrary_with((): ()) -> Self::Strategy {
                        any::<($($ty,)*)>().prop_map(|($($field,)*)| Self { $($field),* }).boxed()
                    }
                }
            )*)*

            impl Method {
                /// A generator for each row of the table, in its order.
                pub fn strategies() -> Vec<BoxedStrategy<Self>> {
                    vec![ $($( any::<$Name>().prop_map(Self::from).boxed(), )*)* ]
                }
            }

            impl Arbitrary for Method {
                type Parameters = ();
                type Strategy = BoxedStrategy<Self>;
                fn arbitrary_with((): ()) -> Self::Strategy {
                    proptest::strategy::Union::new(Self::strategies()).boxed()
                }
            }
        }
    };
    (@content) => { true }; // `carries content` in a row becomes `true || false`
}

methods! {
    class 10 "connection" {
        /// The broker speaks first: its version, who it is, how one may log in.
        10 ConnectionStart "start" from Broker expects ConnectionStartOk {
            version_major: u8, version_minor: u8, server_properties: FieldTable,
            mechanisms: LongString, locales: LongString,
        }
        /// Who the client is, the mechanism it chose, and its credentials.
        11 ConnectionStartOk "start-ok" from Client {
            client_properties: FieldTable, mechanism: ShortString, response: Secret, locale: ShortString,
        }
        /// A challenge of a mechanism that needs more rounds. Neither PLAIN nor AMQPLAIN does.
        20 ConnectionSecure "secure" from Broker expects ConnectionSecureOk { challenge: Secret }
        /// The answer to a challenge.
        21 ConnectionSecureOk "secure-ok" from Client { response: Secret }
        /// The broker's limits: 0 means "no limit", or no heartbeat. `frame_max` in octets, `heartbeat` in seconds.
        30 ConnectionTune "tune" from Broker expects ConnectionTuneOk {
            channel_max: u16, frame_max: u32, heartbeat: u16,
        }
        /// The limits now in force, in both directions.
        31 ConnectionTuneOk "tune-ok" from Client { channel_max: u16, frame_max: u32, heartbeat: u16 }
        /// Enter a virtual host.
        40 ConnectionOpen "open" from Client expects ConnectionOpenOk {
            virtual_host: ShortString, reserved_1: Reserved<ShortString>, reserved_2: Reserved<bool>,
        }
        /// The connection is open.
        41 ConnectionOpenOk "open-ok" from Broker { reserved_1: Reserved<ShortString> }
        /// The last request of either side: why, and which method was at fault.
        50 ConnectionClose "close" from Both expects ConnectionCloseOk {
            reply_code: ReplyCode, reply_text: ShortString, class_id: u16, method_id: u16,
        }
        /// Heard; nothing more is sent.
        51 ConnectionCloseOk "close-ok" from Both {}
        /// *Extension:* the broker is short of something and stops reading from clients that publish.
        60 ConnectionBlocked "blocked" from Broker { reason: ShortString }
        /// *Extension:* the shortage is over.
        61 ConnectionUnblocked "unblocked" from Broker {}
        /// *Extension:* new credentials for a token that runs out.
        70 ConnectionUpdateSecret "update-secret" from Client expects ConnectionUpdateSecretOk {
            new_secret: Secret, reason: ShortString,
        }
        /// *Extension:* the new credentials are in force.
        71 ConnectionUpdateSecretOk "update-secret-ok" from Broker {}
    }
    class 20 "channel" {
        /// Open a lane on an unused number.
        10 ChannelOpen "open" from Client expects ChannelOpenOk { reserved_1: Reserved<ShortString> }
        /// The lane is open.
        11 ChannelOpenOk "open-ok" from Broker { reserved_1: Reserved<LongString> }
        /// Stop (`active` = false) or go on sending content.
        20 ChannelFlow "flow" from Both expects ChannelFlowOk { active: bool }
        /// Heard; repeats the request's value.
        21 ChannelFlowOk "flow-ok" from Both { active: bool }
        /// Close one lane: why, and which method was at fault.
        40 ChannelClose "close" from Both expects ChannelCloseOk {
            reply_code: ReplyCode, reply_text: ShortString, class_id: u16, method_id: u16,
        }
        /// Heard; the number is free again.
        41 ChannelCloseOk "close-ok" from Both {}
    }
    class 40 "exchange" {
        /// Create an exchange or, when `passive`, only check that it exists.
        10 ExchangeDeclare "declare" from Client expects ExchangeDeclareOk {
            reserved_1: Reserved<u16>, exchange: ShortString, kind: ShortString,
            passive: bool, durable: bool, auto_delete: bool, internal: bool, no_wait: bool,
            arguments: FieldTable,
        }
        /// The exchange exists.
        11 ExchangeDeclareOk "declare-ok" from Broker {}
        /// Delete an exchange and the bindings that lead from it.
        20 ExchangeDelete "delete" from Client expects ExchangeDeleteOk {
            reserved_1: Reserved<u16>, exchange: ShortString, if_unused: bool, no_wait: bool,
        }
        /// The exchange is gone.
        21 ExchangeDeleteOk "delete-ok" from Broker {}
        /// *Extension:* let messages flow from one exchange to another.
        30 ExchangeBind "bind" from Client expects ExchangeBindOk {
            reserved_1: Reserved<u16>, destination: ShortString, source: ShortString, routing_key: ShortString,
            no_wait: bool, arguments: FieldTable,
        }
        /// *Extension:* bound.
        31 ExchangeBindOk "bind-ok" from Broker {}
        /// *Extension:* undo an exchange.bind.
        40 ExchangeUnbind "unbind" from Client expects ExchangeUnbindOk {
            reserved_1: Reserved<u16>, destination: ShortString, source: ShortString, routing_key: ShortString,
            no_wait: bool, arguments: FieldTable,
        }
        /// *Extension:* unbound. 51, not 41.
        51 ExchangeUnbindOk "unbind-ok" from Broker {}
    }
    class 50 "queue" {
        /// Create a queue or, when `passive`, only check that it exists.
        10 QueueDeclare "declare" from Client expects QueueDeclareOk {
            reserved_1: Reserved<u16>, queue: ShortString,
            passive: bool, durable: bool, exclusive: bool, auto_delete: bool, no_wait: bool,
            arguments: FieldTable,
        }
        /// The queue exists: its name, the messages ready in it, its consumers.
        11 QueueDeclareOk "declare-ok" from Broker { queue: ShortString, message_count: u32, consumer_count: u32 }
        /// Let messages flow from an exchange to a queue.
        20 QueueBind "bind" from Client expects QueueBindOk {
            reserved_1: Reserved<u16>, queue: ShortString, exchange: ShortString, routing_key: ShortString,
            no_wait: bool, arguments: FieldTable,
        }
        /// Bound.
        21 QueueBindOk "bind-ok" from Broker {}
        /// Drop the messages that are ready.
        30 QueuePurge "purge" from Client expects QueuePurgeOk {
            reserved_1: Reserved<u16>, queue: ShortString, no_wait: bool,
        }
        /// How many were dropped.
        31 QueuePurgeOk "purge-ok" from Broker { message_count: u32 }
        /// Delete a queue with its messages, consumers and bindings.
        40 QueueDelete "delete" from Client expects QueueDeleteOk {
            reserved_1: Reserved<u16>, queue: ShortString, if_unused: bool, if_empty: bool, no_wait: bool,
        }
        /// How many messages were dropped with it.
        41 QueueDeleteOk "delete-ok" from Broker { message_count: u32 }
        /// Undo a queue.bind. 50, and without no-wait.
        50 QueueUnbind "unbind" from Client expects QueueUnbindOk {
            reserved_1: Reserved<u16>, queue: ShortString, exchange: ShortString, routing_key: ShortString,
            arguments: FieldTable,
        }
        /// Unbound.
        51 QueueUnbindOk "unbind-ok" from Broker {}
    }
    class 60 "basic" {
        /// How many unacknowledged messages a consumer may hold; 0 is no limit.
        10 BasicQos "qos" from Client expects BasicQosOk { prefetch_size: u32, prefetch_count: u16, global: bool }
        /// The limit is set.
        11 BasicQosOk "qos-ok" from Broker {}
        /// Subscribe to a queue.
        20 BasicConsume "consume" from Client expects BasicConsumeOk {
            reserved_1: Reserved<u16>, queue: ShortString, consumer_tag: ConsumerTag,
            no_local: bool, no_ack: bool, exclusive: bool, no_wait: bool, arguments: FieldTable,
        }
        /// Subscribed; deliveries follow.
        21 BasicConsumeOk "consume-ok" from Broker { consumer_tag: ConsumerTag }
        /// End a subscription. *Extension:* the broker says so when the queue goes away.
        30 BasicCancel "cancel" from Both expects BasicCancelOk { consumer_tag: ConsumerTag, no_wait: bool }
        /// The subscription has ended; no delivery follows.
        31 BasicCancelOk "cancel-ok" from Both { consumer_tag: ConsumerTag }
        /// A message for an exchange. No reply, ever.
        40 BasicPublish "publish" from Client carries content {
            reserved_1: Reserved<u16>, exchange: ShortString, routing_key: ShortString,
            mandatory: bool, immediate: bool,
        }
        /// A mandatory message that no queue took comes back.
        50 BasicReturn "return" from Broker carries content {
            reply_code: ReplyCode, reply_text: ShortString, exchange: ShortString, routing_key: ShortString,
        }
        /// A message for a consumer.
        60 BasicDeliver "deliver" from Broker carries content {
            consumer_tag: ConsumerTag, delivery_tag: DeliveryTag, redelivered: bool,
            exchange: ShortString, routing_key: ShortString,
        }
        /// Ask for one message.
        70 BasicGet "get" from Client expects BasicGetOk | BasicGetEmpty {
            reserved_1: Reserved<u16>, queue: ShortString, no_ack: bool,
        }
        /// One message, and how many remain.
        71 BasicGetOk "get-ok" from Broker carries content {
            delivery_tag: DeliveryTag, redelivered: bool, exchange: ShortString, routing_key: ShortString,
            message_count: u32,
        }
        /// There was none.
        72 BasicGetEmpty "get-empty" from Broker { reserved_1: Reserved<ShortString> }
        /// Taken care of: a delivery by a client or, in confirm mode, a publish by the broker.
        80 BasicAck "ack" from Both { delivery_tag: DeliveryTag, multiple: bool }
        /// Refuse one delivery: back to the queue, or dropped.
        90 BasicReject "reject" from Client { delivery_tag: DeliveryTag, requeue: bool }
        /// As `recover`, without a reply. Deprecated.
        100 BasicRecoverAsync "recover-async" from Client { requeue: bool }
        /// Put everything unacknowledged on this channel back into its queues.
        110 BasicRecover "recover" from Client expects BasicRecoverOk { requeue: bool }
        /// Done; redeliveries follow.
        111 BasicRecoverOk "recover-ok" from Broker {}
        /// *Extension:* refuse one delivery or all so far or, in confirm mode, a publish.
        120 BasicNack "nack" from Both { delivery_tag: DeliveryTag, multiple: bool, requeue: bool }
    }
    class 85 "confirm" {
        /// *Extension:* from now on the broker acknowledges each publish on this channel.
        10 ConfirmSelect "select" from Client expects ConfirmSelectOk { no_wait: bool }
        /// *Extension:* the next publish is number 1.
        11 ConfirmSelectOk "select-ok" from Broker {}
    }
    class 90 "tx" {
        /// From now on publishes and acks wait for a commit.
        10 TxSelect "select" from Client expects TxSelectOk {}
        /// The channel is transactional.
        11 TxSelectOk "select-ok" from Broker {}
        /// Do what was held back.
        20 TxCommit "commit" from Client expects TxCommitOk {}
        /// Done.
        21 TxCommitOk "commit-ok" from Broker {}
        /// Forget what was held back.
        30 TxRollback "rollback" from Client expects TxRollbackOk {}
        /// Forgotten.
        31 TxRollbackOk "rollback-ok" from Broker {}
    }
}

/// Who may send a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Only the client.
    Client,
    /// Only the broker.
    Broker,
    /// Either side.
    Both,
}

/// One row of the table, as data.
#[derive(Debug)]
pub struct MethodRow {
    /// Class and method number.
    pub id: MethodId,
    /// The dotted name, `queue.declare`.
    pub name: &'static str,
    /// Who may send it.
    pub sender: Sender,
    /// What answers it: empty for a method that is itself a reply, or that has none.
    pub replies: &'static [MethodId],
    /// Whether a content header and bodies follow.
    pub carries_content: bool,
    /// The arguments in wire order: Rust field name and Rust type.
    pub fields: &'static [(&'static str, &'static str)],
}

impl MethodRow {
    /// Whether the method is itself an answer: the `-ok`s, and `get-empty`.
    pub fn is_reply(&self) -> bool {
        self.name.ends_with("-ok") || self.id == BasicGetEmpty::ID
    }

    /// The row of this id, if there is one.
    pub fn of(id: MethodId) -> Option<&'static Self> {
        METHODS
            .binary_search_by_key(&id, |row| row.id)
            .ok()
            .and_then(|at| METHODS.get(at))
    }
}

impl Method {
    /// Who may send it, what answers it, and so on.
    pub fn row(&self) -> &'static MethodRow {
        METHODS.get(self.index()).unwrap_or(&UNKNOWN)
    }

    /// The dotted name, `queue.declare`.
    pub fn name(&self) -> &'static str {
        self.row().name
    }

    /// Whether the sender asked for no reply. METH-8
    pub fn no_wait(&self) -> bool {
        use Method as M;
        match self {
            M::ExchangeDeclare(m) => m.no_wait,
            M::ExchangeDelete(m) => m.no_wait,
            M::ExchangeBind(m) => m.no_wait,
            M::ExchangeUnbind(m) => m.no_wait,
            M::QueueDeclare(m) => m.no_wait,
            M::QueueBind(m) => m.no_wait,
            M::QueuePurge(m) => m.no_wait,
            M::QueueDelete(m) => m.no_wait,
            M::BasicConsume(m) => m.no_wait,
            M::BasicCancel(m) => m.no_wait,
            M::ConfirmSelect(m) => m.no_wait,
            _ => false,
        }
    }

    /// Whether the sender now waits for an answer on this channel.
    pub fn awaits_reply(&self) -> bool {
        !self.row().replies.is_empty() && !self.no_wait()
    }

    /// Octets of the payload: class-id, method-id, arguments.
    pub fn encoded_len(&self) -> usize {
        let mut count = Count::default();
        self.encode_to(&mut count);
        count.0
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        self.encode_to(out);
    }

    /// method-payload = class-id method-id *argument
    #[inline]
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, (MethodId, DecodeError)> {
        let mut reader = ArgReader::new(payload);
        Self::read(&mut reader)
    }

    /// Reads the ids and the arguments, and insists that nothing is left. TYPE-12
    #[inline]
    pub(crate) fn read<F: FieldReader>(reader: &mut F) -> Result<Self, (MethodId, DecodeError)> {
        let id = Self::read_id(reader).map_err(|error| (MethodId::NONE, error))?;
        Self::read_arguments(id, reader).map_err(|error| (id, error))
    }

    #[inline]
    fn read_id<F: FieldReader>(reader: &mut F) -> Result<MethodId, DecodeError> {
        let mut id = MethodId::NONE;
        reader.field("class-id", &mut id.class)?;
        reader.field("method-id", &mut id.method)?;
        Ok(id)
    }
}

/// The name, then what the method says: `basic.publish routing-key="rpc_queue" mandatory`.
impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        self.each_field(&mut |name, value, is_bit| {
            let name = wire_name(name);
            if is_bit {
                write!(f, " {name}")
            } else {
                write!(f, " {name}={value}")
            }
        })
    }
}

/// What the grammar calls a field: `type` is `kind` in Rust, the word being taken.
pub(super) fn wire_name(field: &str) -> String {
    match field {
        "kind" => "type".into(),
        other => other.replace('_', "-"),
    }
}

static UNKNOWN: MethodRow = MethodRow {
    id: MethodId::NONE,
    name: "unknown",
    sender: Sender::Both,
    replies: &[],
    carries_content: false,
    fields: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::short;

    #[test]
    fn a_method_is_one_line() {
        // SASL-12, TYPE-13: what is empty, zero, false or reserved is left out, and so are credentials.
        let mut table = FieldTable::EMPTY;
        table.insert(short!("x-max-priority"), 9);
        let lines: [(Method, &str); 10] = [
            (QueueDeclare::default().into(), "queue.declare"),
            (
                QueueDeclare {
                    queue: short!("jobs"),
                    durable: true,
                    no_wait: true,
                    arguments: table,
                    ..Default::default()
                }
                .into(),
                r#"queue.declare queue="jobs" durable no-wait arguments={x-max-priority: 9}"#,
            ),
            (
                ConnectionStartOk {
                    mechanism: short!("PLAIN"),
                    response: Secret(bytes::Bytes::from_static(b"\0me\0sesame")),
                    ..Default::default()
                }
                .into(),
                r#"connection.start-ok mechanism="PLAIN""#,
            ),
            (
                ConnectionStart {
                    version_minor: 9,
                    mechanisms: "PLAIN".into(),
                    ..Default::default()
                }
                .into(),
                r#"connection.start version-minor=9 mechanisms="PLAIN""#,
            ),
            (
                ConnectionTune {
                    frame_max: 4096,
                    heartbeat: 60,
                    ..Default::default()
                }
                .into(),
                "connection.tune frame-max=4096 heartbeat=60",
            ),
            // A delivery tag of 0 means "all so far", and a code is never left out.
            (
                BasicAck {
                    multiple: true,
                    ..Default::default()
                }
                .into(),
                "basic.ack delivery-tag=0 multiple",
            ),
            (ChannelClose::default().into(), "channel.close reply-code=0"),
            (
                ExchangeDeclare {
                    kind: short!("topic"),
                    ..Default::default()
                }
                .into(),
                r#"exchange.declare type="topic""#,
            ),
            (BasicCancelOk::default().into(), "basic.cancel-ok"),
            (
                BasicCancelOk {
                    consumer_tag: ConsumerTag(short!("a")),
                }
                .into(),
                r#"basic.cancel-ok consumer-tag="a""#,
            ),
        ];
        for (method, line) in lines {
            assert_eq!(method.to_string(), line);
        }
    }

    #[test]
    fn who_waits_for_a_reply() {
        // METH-6, METH-8: a request without no-wait; neither a reply nor a publish.
        let waits = |method: Method| method.awaits_reply();
        let declare = |no_wait| QueueDeclare {
            no_wait,
            ..Default::default()
        };
        assert!(waits(declare(false).into()) && !waits(declare(true).into()));
        assert!(!waits(QueueDeclareOk::default().into()));
        assert!(!waits(BasicPublish::default().into()));
    }

    #[test]
    fn text_that_is_no_utf8_is_known_wherever_it_stands() {
        // TYPE-9: in a shortstr and in a consumer tag; a longstr is octets anyway (TYPE-7).
        let bad = ShortString::try_from(&[0xff][..]).unwrap();
        let declare = QueueDeclare {
            queue: bad.clone(),
            ..Default::default()
        };
        let cancel_ok = BasicCancelOk {
            consumer_tag: ConsumerTag(bad),
        };
        let start = ConnectionStart {
            mechanisms: vec![0xff].into(),
            ..Default::default()
        };
        assert!(!Method::from(declare).is_utf8() && !Method::from(cancel_ok).is_utf8());
        assert!(Method::from(start).is_utf8() && Method::from(BasicCancelOk::default()).is_utf8());
    }
}
