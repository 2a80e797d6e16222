//! # Faults: why a request is refused, in RabbitMQ's words
//!
//! ```text
//! NOT_FOUND - no queue 'rpc_queue' in vhost '/'
//! └─ code ┘      └───────── resource ─────────┘
//! ```
//!
//! The code decides how much is lost, a channel or the connection ([`ReplyCode::scope`]). People read these texts and
//! a few clients even search them, so they are RabbitMQ's to the letter (ERR-4).
//!
//! Read next: [`account`](super::account). Explained in `docs/19-reply-codes.md`.

use std::fmt;

use crate::codec::{ReplyCode, ShortString};

/// A request that cannot be met: the code and the text of the close that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The number, which also says whether the channel or the connection closes.
    pub code: ReplyCode,
    /// The reply text; whoever sends it cuts it to 255 octets (CLOSE-14).
    pub text: String,
}

/// A queue or an exchange, as RabbitMQ names it in a reply text: `queue 'x' in vhost '/'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    kind: &'static str,
    name: ShortString,
    vhost: ShortString,
}

impl Resource {
    /// The queue of this name, whether or not it exists.
    pub fn queue(name: &ShortString, vhost: &ShortString) -> Self {
        Self {
            kind: "queue",
            name: name.clone(),
            vhost: vhost.clone(),
        }
    }

    /// The exchange of this name, whether or not it exists.
    pub fn exchange(name: &ShortString, vhost: &ShortString) -> Self {
        Self {
            kind: "exchange",
            ..Self::queue(name, vhost)
        }
    }

    /// 403 when the name begins `amq.`, which only the broker may give. QUEUE-3, EXCH-2
    ///
    /// # Errors
    /// `ACCESS_REFUSED`, which closes the channel.
    pub fn refuse_reserved(&self) -> Result<(), Fault> {
        if !self.name.as_bytes().starts_with(b"amq.") {
            return Ok(());
        }
        let Self { kind, name, .. } = self;
        Err(Fault::refused(format!(
            "{kind} name '{name}' contains reserved prefix 'amq.*'"
        )))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' in vhost '{}'", self.kind, self.name, self.vhost)
    }
}

impl Fault {
    /// A code and, behind its name, what RabbitMQ has to say about it.
    pub fn new(code: ReplyCode, explanation: impl fmt::Display) -> Self {
        Self {
            code,
            text: format!("{} - {explanation}", code.name()),
        }
    }

    /// 404: no such queue or exchange. Closes the channel.
    pub fn not_found(missing: &Resource) -> Self {
        Self::new(ReplyCode::NOT_FOUND, format_args!("no {missing}"))
    }

    /// 403: not permitted. Closes the channel.
    pub fn refused(explanation: impl fmt::Display) -> Self {
        Self::new(ReplyCode::ACCESS_REFUSED, explanation)
    }

    /// 403: the exchange without a name cannot be declared, deleted, bound or unbound. QUEUE-11
    pub fn default_exchange() -> Self {
        Self::refused("operation not permitted on the default exchange")
    }

    /// 405: the queue is exclusive to another connection, or was not declared exclusive. QUEUE-6, QUEUE-8
    pub fn locked(queue: &Resource) -> Self {
        Self::new(
            ReplyCode::RESOURCE_LOCKED,
            format_args!(
                "cannot obtain exclusive access to locked {queue}. It could be originally declared on another \
                 connection or the exclusive property value does not match that of the original declaration."
            ),
        )
    }

    /// 406: an argument, a property or a tag does not fit. Closes the channel.
    pub fn precondition(explanation: impl fmt::Display) -> Self {
        Self::new(ReplyCode::PRECONDITION_FAILED, explanation)
    }

    /// 540: the method, or this use of it, is not implemented. Closes the connection.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self::new(ReplyCode::NOT_IMPLEMENTED, what)
    }
}
