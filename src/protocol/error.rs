//! # Errors: broken rules, and why a channel or a connection is over
//!
//! ```text
//! Violation    a rule was broken: by whom, which code, on which channel, at which method
//! CloseReason  what a close carries on the wire: code, text, method
//! Cause        why it is over: a violation, a close of either side, silence, a socket that failed ...
//! ```
//!
//! A broken rule has an author. If our own caller asked for it, nothing was sent and the call returns the
//! [`Violation`]; if the peer sent it, a close goes out with its code and the same value says why.
//!
//! Read next: part 3, `driver.rs`. Explained in `docs/09-errors-and-closing.md`.

use std::time::Duration;

use thiserror::Error;

use crate::codec::{
    BadFrame, ChannelClose, ChannelId, ConnectionClose, MethodId, ReplyCode, Scope, ShortString,
};

/// Who broke the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Our own caller; nothing was sent.
    Ours,
    /// The other side; a close was sent.
    Peer,
}

/// A rule of the protocol that was broken. ERR-9
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} - {text}", .code.name())]
pub struct Violation {
    /// Who broke it.
    pub blame: Blame,
    /// The reply code it earns, which also says how much is lost.
    pub code: ReplyCode,
    /// What was expected and what came.
    pub text: String,
    /// Where.
    pub channel: ChannelId,
    /// The method at fault, or [`MethodId::NONE`]. ERR-3
    pub method: MethodId,
}

impl Violation {
    pub(crate) fn by_peer(
        code: ReplyCode,
        channel: ChannelId,
        method: MethodId,
        text: impl Into<String>,
    ) -> Self {
        Self {
            blame: Blame::Peer,
            code,
            text: text.into(),
            channel,
            method,
        }
    }

    pub(crate) fn ours(
        code: ReplyCode,
        channel: ChannelId,
        method: MethodId,
        text: impl Into<String>,
    ) -> Self {
        Self {
            blame: Blame::Ours,
            code,
            text: text.into(),
            channel,
            method,
        }
    }

    /// What is lost. On channel 0 every error is hard.
    pub fn scope(&self) -> Scope {
        if self.channel == ChannelId::CONTROL {
            Scope::Connection
        } else {
            self.code.scope()
        }
    }
}

impl From<BadFrame> for Violation {
    fn from(bad: BadFrame) -> Self {
        Self::by_peer(
            bad.error.reply_code(),
            ChannelId::CONTROL,
            bad.method,
            bad.error.to_string(),
        )
    }
}

/// What a `channel.close` or a `connection.close` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The number.
    pub code: ReplyCode,
    /// The whole reply text as it stands on the wire, `NOT_FOUND - no queue 'x' in vhost '/'`.
    pub text: String,
    /// The method at fault, or [`MethodId::NONE`].
    pub method: MethodId,
}

impl CloseReason {
    /// Nothing went wrong: 200.
    pub fn goodbye() -> Self {
        Self {
            code: ReplyCode::SUCCESS,
            text: "Goodbye".into(),
            method: MethodId::NONE,
        }
    }

    /// `CODE_NAME - explanation`, as RabbitMQ writes it. ERR-4
    pub fn new(code: ReplyCode, explanation: &str, method: MethodId) -> Self {
        Self {
            code,
            text: format!("{} - {explanation}", code.name()),
            method,
        }
    }

    pub(crate) fn on_channel(&self) -> ChannelClose {
        let MethodId { class, method } = self.method;
        let reply_text = ShortString::truncated(&self.text);
        ChannelClose {
            reply_code: self.code,
            reply_text,
            class_id: class,
            method_id: method,
        }
    }

    pub(crate) fn on_connection(&self) -> ConnectionClose {
        let ChannelClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        } = self.on_channel();
        ConnectionClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        }
    }
}

impl From<&Violation> for CloseReason {
    fn from(violation: &Violation) -> Self {
        Self::new(violation.code, &violation.text, violation.method)
    }
}

impl From<ChannelClose> for CloseReason {
    fn from(close: ChannelClose) -> Self {
        let method = MethodId {
            class: close.class_id,
            method: close.method_id,
        };
        Self {
            code: close.reply_code,
            text: close.reply_text.to_string(),
            method,
        }
    }
}

impl From<ConnectionClose> for CloseReason {
    fn from(close: ConnectionClose) -> Self {
        let ConnectionClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        } = close;
        ChannelClose {
            reply_code,
            reply_text,
            class_id,
            method_id,
        }
        .into()
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)?;
        if self.method == MethodId::NONE {
            Ok(())
        } else {
            write!(f, " [{}]", self.method)
        }
    }
}

/// What a peer that does not speak AMQP 0-9-1 said instead. HDR-5
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Greeting {
    /// Eight octets that begin with `AMQP`: another version is served here, and this is it.
    OtherVersion([u8; 4]),
    /// `HTTP/`
    Http,
    /// A TLS record: this is the port of `amqps://`.
    Tls,
    /// The first octets of something else, at most 16 of them. SEC-14
    Unknown(Vec<u8>),
}

impl Greeting {
    /// Names the speaker from its first octets, or `None` while they could still become something known.
    pub(crate) fn recognise(octets: &[u8], at_end: bool) -> Option<Self> {
        let begins = |with: &[u8]| octets.starts_with(with);
        match octets {
            [b'A', b'M', b'Q', b'P', version @ ..] if version.len() >= 4 => {
                version.first_chunk().copied().map(Self::OtherVersion)
            }
            _ if begins(b"HTTP/") => Some(Self::Http),
            [21 | 22, 3, ..] => Some(Self::Tls),
            _ if at_end || octets.len() >= 8 => {
                Some(Self::Unknown(octets.iter().take(16).copied().collect()))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Greeting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherVersion([0 | 2 | 3, 1, 0, 0]) => f.write_str("it speaks AMQP 1.0"),
            Self::OtherVersion(version) => {
                let [id, major, minor, revision] = version;
                write!(f, "it offers AMQP {id} {major} {minor} {revision}")
            }
            Self::Http => f.write_str("it speaks HTTP"),
            Self::Tls => f.write_str("it speaks TLS"),
            Self::Unknown(octets) => write!(f, "it said \"{}\"", octets.escape_ascii()),
        }
    }
}

/// Why a channel or a connection is over. The first cause is kept and given to everyone who asks. ERR-10
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// We said close, and nothing was wrong.
    #[error("closed by this side")]
    ClosedHere,
    /// The peer said close.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(CloseReason),
    /// The peer broke a rule, so we said close.
    #[error("the peer broke a rule: {0}")]
    Violation(Violation),
    /// The peer does not speak AMQP 0-9-1. HDR-5
    #[error("the peer does not speak AMQP 0-9-1: {0}")]
    NotAmqp(Greeting),
    /// The peer offers no login that we know. CONN-5
    #[error("the peer offers the mechanisms {offered:?}, none of which is known here")]
    NoMechanism {
        /// What it offered.
        offered: String,
    },
    /// The stream ended right after the credentials went out: probably they are wrong. CONN-16
    #[error("the peer hung up after the credentials were sent: they are probably wrong")]
    LoginRefused,
    /// The stream ended right after our tune-ok: the peer does not like our limits. TUNE-4
    #[error("the peer hung up after tune-ok: it probably refuses our limits")]
    LimitsRefused,
    /// The stream ended without a close. CLOSE-10
    #[error("the peer hung up without a close")]
    EndOfStream,
    /// Nothing was heard for two heartbeat intervals. HB-4
    #[error("nothing was heard from the peer for {} s", .silence.as_secs())]
    Silence {
        /// How long, at the least.
        silence: Duration,
    },
    /// The handshake took too long. CONN-17, SEC-2
    #[error("the handshake was not over after {} s", .limit.as_secs_f32())]
    HandshakeTimeout {
        /// The time it had.
        limit: Duration,
    },
    /// A broker refuses a handshake without a word. CONN-12
    #[error("the handshake was refused: {0}")]
    Refused(String),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(String),
}

impl Cause {
    /// The reply code, if a close carried one.
    pub fn code(&self) -> Option<ReplyCode> {
        match self {
            Self::ClosedByPeer(reason) => Some(reason.code),
            Self::Violation(violation) => Some(violation.code),
            _ => None,
        }
    }
}
