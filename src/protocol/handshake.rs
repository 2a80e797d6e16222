//! # The handshake: two tables on one page
//!
//! ```text
//! client                                   broker
//!   | -- protocol header ------------------> |
//!   | <------------------ connection.start - |   who I am, how to log in
//!   | -- start-ok -------------------------> |   who I am, my credentials
//!   | <------------------- connection.tune - |   my limits
//!   | -- tune-ok --------------------------> |   the limits in force
//!   | -- open (virtual host) --------------> |   sent right behind it (TUNE-12)
//!   | <---------------- connection.open-ok - |
//! ```
//!
//! Everything is on channel 0 and in exactly this order (CONN-1). Each state is named for what it waits for; the last
//! arm of each table is the error.
//!
//! A broker that refuses before open hangs up without a word. Three refusals get a `connection.close` all the same: a
//! login, if the client has announced that it can read that; a virtual host; and a frame on another channel that comes
//! after start-ok and before open (CONN-12, CONN-13).
//!
//! Read next: [`sasl`](super::sasl). Explained in `docs/03-handshake.md`.

use std::time::Duration;

use super::{
    error::{Cause, Violation},
    sasl::{Credentials, Mechanism, claimed},
    tuning::Tuning,
};
use crate::{
    codec::{
        ChannelId, ConnectionOpen, ConnectionOpenOk, ConnectionStart, ConnectionStartOk,
        ConnectionTune, ConnectionTuneOk, FieldTable, FieldValue, LongString, Method, MethodId,
        ReplyCode, ShortString,
    },
    short,
};

/// What a client brings to the handshake.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Who logs in.
    pub credentials: Credentials,
    /// How.
    pub mechanism: Mechanism,
    /// Where to: `/` unless told otherwise.
    pub virtual_host: ShortString,
    /// The limits we would like.
    pub tuning: Tuning,
    /// Entries for client-properties, before ours. At most about 3 KiB: start-ok must fit 4096 octets (FRAME-8).
    pub properties: FieldTable,
    /// The time for the whole handshake. CONN-17
    pub handshake_timeout: Duration,
    /// The largest body accepted, in octets. SEC-16
    pub body_limit: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            credentials: Credentials::guest(),
            mechanism: Mechanism::Any,
            virtual_host: short!("/"),
            tuning: Tuning::default(),
            properties: FieldTable::EMPTY,
            handshake_timeout: Duration::from_secs(10),
            body_limit: BODY_LIMIT,
        }
    }
}

/// 16 MiB, as RabbitMQ 4 has it. SEC-5
pub const BODY_LIMIT: u64 = 16 << 20;

/// What a broker brings to the handshake.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Who may log in.
    pub users: Vec<Credentials>,
    /// Where to.
    pub virtual_hosts: Vec<ShortString>,
    /// The limits offered.
    pub tuning: Tuning,
    /// The time from accept to open. SEC-2
    pub handshake_timeout: Duration,
    /// The largest body accepted, in octets. SEC-5
    pub body_limit: u64,
    /// Whether the peer is on this machine: guest is let in from nowhere else. SASL-11
    pub peer_is_loopback: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            users: vec![Credentials::guest()],
            virtual_hosts: vec![short!("/")],
            tuning: Tuning::default(),
            handshake_timeout: Duration::from_secs(10),
            body_limit: BODY_LIMIT,
            peer_is_loopback: true,
        }
    }
}

/// What the handshake agreed on, and between whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The limits in force. TUNE-7
    pub tuning: Tuning,
    /// What the peer says of itself.
    pub peer_properties: FieldTable,
    /// Who logged in.
    pub user: ShortString,
    /// Where to.
    pub virtual_host: ShortString,
}

impl Opened {
    /// Whether the peer announced this extension as true. CONN-8, CONN-9
    pub fn peer_can(&self, capability: &str) -> bool {
        can(&self.peer_properties, capability)
    }
}

fn can(properties: &FieldTable, capability: &str) -> bool {
    match properties.get("capabilities") {
        Some(FieldValue::Table(all)) => all.get(capability) == Some(&FieldValue::Bool(true)),
        _ => false,
    }
}

/// The client's side.
#[derive(Debug)]
pub(crate) enum ClientHandshake {
    AwaitStart,
    AwaitTune { peer: FieldTable },
    AwaitOpenOk(Opened),
    Done(Opened),
}

impl ClientHandshake {
    #[rustfmt::skip] // a transition table: the columns are the point
    pub(crate) fn receive(self, config: &ClientConfig, got: Method) -> Result<(Self, Vec<Method>), Cause> {
        use {ClientHandshake as S, Method as M};
        Ok(match (self, got) {
            (S::AwaitStart, M::ConnectionStart(start)) => {
                let start_ok = start_ok(config, &start)?;
                (S::AwaitTune { peer: start.server_properties }, vec![start_ok.into()])
            }
            (S::AwaitTune { peer }, M::ConnectionTune(tune)) => {
                let tuning = config.tuning.negotiate(&tune).map_err(Cause::Refused)?;
                let Tuning { channel_max, frame_max, heartbeat } = tuning;
                let open = ConnectionOpen { virtual_host: config.virtual_host.clone(), ..Default::default() };
                let opened = opened(config, tuning, peer);
                (S::AwaitOpenOk(opened), vec![ConnectionTuneOk { channel_max, frame_max, heartbeat }.into(), open.into()])
            }
            (S::AwaitOpenOk(opened), M::ConnectionOpenOk(_)) => (S::Done(opened), vec![]),
            (state, got) => return Err(Cause::Violation(out_of_turn(state.due(), &got))),
        })
    }

    fn due(&self) -> &'static str {
        match self {
            Self::AwaitStart => "connection.start",
            Self::AwaitTune { .. } => "connection.tune",
            Self::AwaitOpenOk(_) => "connection.open-ok",
            Self::Done(_) => "nothing of the handshake",
        }
    }
}

/// The broker's side, from the moment the protocol header was right.
#[derive(Debug)]
pub(crate) enum ServerHandshake {
    AwaitStartOk,
    AwaitTuneOk { user: ShortString, peer: FieldTable },
    AwaitOpen(Opened),
    Done(Opened),
}

impl ServerHandshake {
    #[rustfmt::skip] // a transition table: the columns are the point
    pub(crate) fn receive(self, config: &ServerConfig, got: Method) -> Result<(Self, Vec<Method>), Cause> {
        use {Method as M, ServerHandshake as S};
        Ok(match (self, got) {
            (S::AwaitStartOk, M::ConnectionStartOk(start_ok)) => {
                let user = login(config, &start_ok)?;
                let Tuning { channel_max, frame_max, heartbeat } = config.tuning;
                let tune = ConnectionTune { channel_max, frame_max, heartbeat };
                (S::AwaitTuneOk { user, peer: start_ok.client_properties }, vec![tune.into()])
            }
            (S::AwaitTuneOk { user, peer }, M::ConnectionTuneOk(tune_ok)) => {
                let tuning = config.tuning.accept(&tune_ok).map_err(Cause::Refused)?;
                let virtual_host = ShortString::EMPTY;
                (S::AwaitOpen(Opened { tuning, peer_properties: peer, user, virtual_host }), vec![])
            }
            (S::AwaitOpen(opened), M::ConnectionOpen(ConnectionOpen { virtual_host, .. })) => {
                enter(config, &virtual_host)?;
                (S::Done(Opened { virtual_host, ..opened }), vec![ConnectionOpenOk::default().into()])
            }
            (_, got) => return Err(Cause::Refused(format!("{} out of turn", got.name()))),
        })
    }

    /// A frame for another channel, before there can be one. CONN-13
    pub(crate) fn too_early(&self) -> Cause {
        let text = "a frame on a channel before connection.open";
        match self {
            Self::AwaitStartOk => Cause::Refused(text.into()),
            _ => Cause::Violation(Violation::by_peer(
                ReplyCode::UNEXPECTED_FRAME,
                ChannelId::CONTROL,
                MethodId::NONE,
                text,
            )),
        }
    }
}

fn out_of_turn(due: &str, got: &Method) -> Violation {
    let text = format!("expected {due}, got {}", got.name());
    Violation::by_peer(
        ReplyCode::COMMAND_INVALID,
        ChannelId::CONTROL,
        got.id(),
        text,
    )
}

fn opened(config: &ClientConfig, tuning: Tuning, peer_properties: FieldTable) -> Opened {
    let user = ShortString::truncated(&config.credentials.user);
    Opened {
        tuning,
        peer_properties,
        user,
        virtual_host: config.virtual_host.clone(),
    }
}

/// Who the client is, and its credentials in a form that the broker offered.
fn start_ok(config: &ClientConfig, start: &ConnectionStart) -> Result<ConnectionStartOk, Cause> {
    if (start.version_major, start.version_minor) != (0, 9) {
        // CONN-3
        return Err(Cause::Refused(format!(
            "it speaks AMQP {}-{}",
            start.version_major, start.version_minor
        )));
    }
    let offered = start.mechanisms.to_string();
    let Some((mechanism, response)) = config.mechanism.respond(&offered, &config.credentials)
    else {
        return Err(Cause::NoMechanism { offered });
    };
    let client_properties = client_properties(&config.properties);
    Ok(ConnectionStartOk {
        client_properties,
        mechanism,
        response,
        locale: short!("en_US"),
    })
}

/// Only what this client really handles is announced. CONN-7, CONN-9
fn client_properties(extra: &FieldTable) -> FieldTable {
    let capabilities = [
        short!("publisher_confirms"),
        short!("basic.nack"),
        short!("consumer_cancel_notify"),
        short!("connection.blocked"),
        short!("exchange_exchange_bindings"),
        short!("authentication_failure_close"),
    ];
    let mut properties = extra.clone();
    properties.insert(short!("product"), "amqp-rpc");
    properties.insert(short!("version"), env!("CARGO_PKG_VERSION"));
    properties.insert(short!("platform"), "Rust");
    properties.insert(short!("capabilities"), all_true(capabilities));
    properties
}

/// What the built-in broker says of itself. CONN-6
pub(crate) fn start() -> ConnectionStart {
    let capabilities = [
        short!("publisher_confirms"),
        short!("exchange_exchange_bindings"),
        short!("basic.nack"),
        short!("consumer_cancel_notify"),
        short!("authentication_failure_close"),
        short!("per_consumer_qos"),
        short!("direct_reply_to"),
    ];
    let mut server_properties = FieldTable::EMPTY;
    server_properties.insert(short!("capabilities"), all_true(capabilities));
    server_properties.insert(short!("product"), "amqp-rpc");
    server_properties.insert(short!("version"), env!("CARGO_PKG_VERSION"));
    server_properties.insert(
        short!("information"),
        "in memory, one node: to learn and to test with",
    );
    ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: LongString::from("PLAIN AMQPLAIN"),
        locales: LongString::from("en_US"),
    }
}

fn all_true<const N: usize>(names: [ShortString; N]) -> FieldTable {
    FieldTable(
        names
            .into_iter()
            .map(|name| (name, FieldValue::Bool(true)))
            .collect(),
    )
}

/// Who the response says it is, if the password is right. The text never says which of the two was wrong (SASL-8); a
/// client that announced it can read a refusal is told 403, tied to no method (SASL-7).
fn login(config: &ServerConfig, start_ok: &ConnectionStartOk) -> Result<ShortString, Cause> {
    let mechanism = start_ok.mechanism.to_string();
    let Ok(claimed) = claimed(&mechanism, &start_ok.response.0) else {
        return Err(Cause::Refused(format!(
            "mechanism {mechanism} was not offered"
        ))); // SASL-9
    };
    let is_known = |claimed: &Credentials| {
        let known = config
            .users
            .iter()
            .any(|known| known.match_in_constant_time(claimed));
        known && (config.peer_is_loopback || claimed.user != "guest") // SASL-11
    };
    if let Some(Credentials { user, .. }) = claimed.filter(is_known) {
        return Ok(ShortString::truncated(&user));
    }
    if !can(&start_ok.client_properties, "authentication_failure_close") {
        return Err(Cause::Refused("the login was refused".into()));
    }
    let text = format!(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    );
    let refused = Violation::by_peer(
        ReplyCode::ACCESS_REFUSED,
        ChannelId::CONTROL,
        MethodId::NONE,
        text,
    );
    Err(Cause::Violation(refused))
}

fn enter(config: &ServerConfig, virtual_host: &ShortString) -> Result<(), Cause> {
    if config.virtual_hosts.contains(virtual_host) {
        return Ok(());
    }
    // CONN-10: 530, where the published text has 402.
    let text = format!("vhost {virtual_host} not found");
    let not_found = Violation::by_peer(
        ReplyCode::NOT_ALLOWED,
        ChannelId::CONTROL,
        ConnectionOpen::ID,
        text,
    );
    Err(Cause::Violation(not_found))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Secret;

    #[test]
    fn guest_comes_from_this_machine_or_not_at_all() {
        // SASL-11
        let response = Secret(Bytes::from_static(b"\0guest\0guest"));
        let start_ok = ConnectionStartOk {
            mechanism: short!("PLAIN"),
            response,
            ..Default::default()
        };
        let far = ServerConfig {
            peer_is_loopback: false,
            ..Default::default()
        };
        assert_eq!(
            login(&ServerConfig::default(), &start_ok).map(|user| user.to_string()),
            Ok("guest".into())
        );
        assert_eq!(
            login(&far, &start_ok),
            Err(Cause::Refused("the login was refused".into()))
        );
    }
}
