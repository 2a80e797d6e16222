//! # Sentences: one for each thing that can go wrong, and what to do about it
//!
//! ```text
//! Cause, Error, RpcError ─▶ "No broker listens at localhost:5672: start one with `cargo run --bin server`, .."   3
//! ```
//!
//! Whoever reads it has no debugger and did not write the program. So it says what was tried, what the broker said, and
//! what to try next; the number is the exit status.
//!
//! Read next: [`fib`](super::fib). Explained in `docs/19-reply-codes.md`, and `docs/24-incidents.md`.

use std::io;

use super::{Failure, Status};
use crate::{
    client::{ConnectOptions, Endpoints, Error},
    codec::{MethodId, ReplyCode},
    protocol::Cause,
    rpc::{NoReply, RpcError, Servers},
};

/// Why there is no connection to any of these places: what the last of them said, and how many there were.
pub fn of_endpoints(error: &Error, endpoints: &Endpoints) -> Failure {
    let mut places = endpoints.iter();
    let failure = places.next_back().map(|last| of_connect(error, last));
    let Failure { sentence, status } = failure.unwrap_or_else(|| of_operation(error));
    match places.count() {
        0 => Failure::new(status, sentence),
        1 => Failure::new(
            status,
            format!("{sentence} The other place that was named failed, too."),
        ),
        others => Failure::new(
            status,
            format!("{sentence} The {others} other places that were named failed, too."),
        ),
    }
}

/// Why there is no connection.
pub fn of_connect(error: &Error, options: &ConnectOptions) -> Failure {
    let address = options.address();
    match error {
        Error::Connect { source, .. } => {
            Failure::new(Status::NoBroker, unreachable(source, &address))
        }
        Error::ConnectionClosed(cause) => of_handshake(cause, options),
        other => Failure::new(
            Status::Other,
            format!("Cannot connect to {address}: {other}."),
        ),
    }
}

fn unreachable(error: &io::Error, address: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused if *address == ConnectOptions::default().address() => {
            format!(
                "No broker listens at {address}: start one with `cargo run --bin server` (or `--bin broker`), or name \
                 another with --url."
            )
        }
        io::ErrorKind::ConnectionRefused => format!(
            "No broker listens at {address}: check the address, and whether the broker runs."
        ),
        io::ErrorKind::TimedOut => {
            format!("No broker answers at {address}: the connection timed out.")
        }
        _ => format!("Cannot connect to {address}: {error}."),
    }
}

fn of_handshake(cause: &Cause, options: &ConnectOptions) -> Failure {
    let (address, user) = (options.address(), options.user());
    let vhost = options.virtual_host();
    match cause {
        Cause::NotAmqp(greeting) => {
            let text = format!("What listens at {address} does not speak AMQP 0-9-1: {greeting}.");
            Failure::new(Status::NoBroker, text)
        }
        Cause::HandshakeTimeout { limit } => {
            let text = format!(
                "What listens at {address} said nothing for {} s: it may be no broker.",
                limit.as_secs()
            );
            Failure::new(Status::NoBroker, text)
        }
        Cause::EndOfStream => {
            let text = format!(
                "What listens at {address} hung up without a word: it may be no AMQP 0-9-1 broker."
            );
            Failure::new(Status::NoBroker, text)
        }
        Cause::LoginRefused => refused(format!(
            "The broker at {address} hung up after the login of user '{user}': the password is probably wrong."
        )),
        Cause::ClosedByPeer(reason)
            if reason.code == ReplyCode::ACCESS_REFUSED && reason.method == MethodId::NONE =>
        {
            refused(format!(
                "The broker at {address} refused the login of user '{user}': check user and password in the URL (and \
                 RabbitMQ lets guest in from its own machine only)."
            ))
        }
        Cause::ClosedByPeer(reason)
            if reason.code == ReplyCode::NOT_ALLOWED && vhost.is_empty() =>
        {
            refused(format!(
                "The broker at {address} has no virtual host with the empty name, which a URL ending in '/' asks for: \
             leave the '/' away, or write '/%2f'."
            ))
        }
        Cause::ClosedByPeer(reason) if reason.code == ReplyCode::NOT_ALLOWED => refused(format!(
            "The broker at {address} does not let user '{user}' into virtual host '{vhost}': {reason}."
        )),
        other => Failure::new(
            Status::Lost,
            format!("The connection to {address} failed: {other}."),
        ),
    }
}

fn refused(text: String) -> Failure {
    Failure::new(Status::Refused, text)
}

/// Why an address cannot be listened at.
pub fn of_bind(error: &io::Error, address: &str) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("Something listens at {address} already: choose another address with --listen.")
        }
        io::ErrorKind::PermissionDenied => format!("This user may not listen at {address}."),
        io::ErrorKind::InvalidInput => {
            format!(
                "Cannot listen at {address}: expected an address and a port, such as 127.0.0.1:5673."
            )
        }
        _ => format!("Cannot listen at {address}: {error}."),
    };
    Failure::new(Status::NoBroker, text)
}

/// Why an open connection failed.
pub fn of_operation(error: &Error) -> Failure {
    match error {
        Error::ConnectionClosed(Cause::ClosedByPeer(reason))
            if reason.code == ReplyCode::CONNECTION_FORCED =>
        {
            Failure::new(
                Status::Lost,
                format!("The broker has ended this connection: {}.", reason.text),
            )
        }
        Error::ChannelClosed(Cause::ClosedByPeer(reason))
            if reason.code == ReplyCode::PRECONDITION_FAILED =>
        {
            let text = inequivalent(&reason.text)
                .unwrap_or_else(|| format!("The broker refused: {}.", reason.text));
            Failure::new(Status::Other, text)
        }
        Error::ConnectionClosed(cause) => {
            Failure::new(Status::Lost, format!("The connection was lost: {cause}."))
        }
        other => Failure::new(
            Status::Other,
            format!("The broker did not do what was asked: {other}."),
        ),
    }
}

/// The error that every beginner meets, explained: which argument, both values, the remedy.
///
/// `PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'`
fn inequivalent(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once("' for queue '")?;
    let (queue, rest) = rest.split_once("' in vhost")?;
    let (_, rest) = rest.split_once(": received ")?;
    let (received, current) = rest.split_once(" but current is ")?;
    Some(format!(
        "Queue '{queue}' exists already with another '{argument}': asked for {received}, but it has {current}. Take it \
         as it stands with --queue-type auto, declare it the same way, or delete it first."
    ))
}

/// Why a call has no result: one sentence and one exit status for each outcome.
pub fn of_call(error: &RpcError) -> Failure {
    match error {
        RpcError::Unroutable { queue, .. } => no_queue(&queue.to_string()),
        RpcError::Refused { queue } => {
            let text = format!("The broker refused the request: queue '{queue}' is full.");
            Failure::new(Status::QueueFull, text)
        }
        RpcError::Timeout(no_reply) => {
            let (seconds, id) = (no_reply.elapsed.as_secs(), &no_reply.correlation_id);
            let why = why_late(no_reply);
            let text = format!(
                "No reply within {seconds} s: {why} The call may have been executed (correlation id {id})."
            );
            Failure::new(Status::Timeout, text)
        }
        RpcError::Remote { message, .. } => Failure::new(
            Status::Remote,
            format!("The server answered with an error: {message}."),
        ),
        RpcError::ConnectionLost {
            cause,
            maybe_executed,
        } => executed(of_operation(cause), *maybe_executed),
        RpcError::ChannelClosed {
            cause,
            maybe_executed,
        } => {
            let Failure { sentence, .. } = of_operation(cause);
            executed(
                Failure::new(Status::ChannelClosed, sentence),
                *maybe_executed,
            )
        }
        RpcError::Decode(why) => Failure::new(
            Status::NotUnderstood,
            format!("A reply came that cannot be understood: {why}."),
        ),
        RpcError::ShutDown { maybe_executed } => executed(
            Failure::new(Status::Interrupted, "The client was stopped."),
            *maybe_executed,
        ),
        RpcError::NotSent(error) => {
            let text = format!("The request cannot be sent: {error}.");
            Failure::new(Status::NotSent, text)
        }
        RpcError::Encode(why) => {
            let text = format!("The request cannot be written: {why}.");
            Failure::new(Status::NotSent, text)
        }
    }
}

fn executed(Failure { sentence, status }: Failure, maybe: bool) -> Failure {
    let call = if maybe {
        "The call may have been executed."
    } else {
        "The call was not executed."
    };
    Failure::new(status, format!("{sentence} {call}"))
}

/// Whose fault it was, as far as anybody can tell.
fn why_late(no_reply: &NoReply) -> String {
    let NoReply {
        queue,
        confirmed,
        blocked,
        servers,
        ..
    } = no_reply;
    if let Some(reason) = blocked {
        return format!("the broker takes no requests now ({reason}).");
    }
    if !confirmed {
        return "the broker has not confirmed the request.".into();
    }
    let servers = match servers {
        Servers::Consumers(0) => {
            return format!("queue '{queue}' exists, but nobody consumes from it. Start a server.");
        }
        Servers::QueueGone => return format!("queue '{queue}' has been deleted."),
        Servers::Consumers(1) => "the server is busy or slow",
        Servers::Consumers(_) => "the servers are busy or slow",
        Servers::Unknown => "the broker did not say in time whether a server is there",
    };
    format!("{servers}. Give it more time, or start more servers.")
}

/// No queue: no server has ever been there.
pub fn no_queue(queue: &str) -> Failure {
    let text = format!(
        "No server: there is no queue '{queue}'. Start a server with `cargo run --bin server`, or queue the request all \
         the same with --wait."
    );
    Failure::new(Status::NoServer, text)
}

/// A queue, but nobody at its end.
pub fn no_consumer(queue: &str, waiting: u32) -> Failure {
    let requests = if waiting == 1 {
        "1 request waits".to_owned()
    } else {
        format!("{waiting} requests wait")
    };
    let text = format!(
        "No server: queue '{queue}' exists, but nobody consumes from it ({requests} there). Start a server \
         with `cargo run --bin server`, or queue the request all the same with --wait."
    );
    Failure::new(Status::NoServer, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::QueueDeclare, protocol::CloseReason};

    #[test]
    fn the_advice_fits_the_address() {
        let says = |options: &ConnectOptions| {
            let refused = io::ErrorKind::ConnectionRefused.into();
            let source = std::sync::Arc::new(refused);
            let address = options.address();
            of_connect(&Error::Connect { address, source }, options).sentence
        };
        let usual = ConnectOptions::default();
        assert!(says(&usual).contains("cargo run --bin server"));
        let elsewhere = says(&usual.at("rabbit.example", 5672));
        assert_eq!(
            elsewhere,
            "No broker listens at rabbit.example:5672: check the address, and whether the broker runs."
        );
    }

    #[test]
    fn a_queue_with_other_properties_is_explained() {
        // QUEUE-4
        let text = "inequivalent arg 'durable' for queue 'rpc_queue' in vhost '/': received 'false' but current is 'true'";
        let reason = CloseReason::new(ReplyCode::PRECONDITION_FAILED, text, QueueDeclare::ID);
        let failure = of_operation(&Error::ChannelClosed(Cause::ClosedByPeer(reason)));
        let expected = "Queue 'rpc_queue' exists already with another 'durable': asked for 'false', but it has 'true'.";
        assert!(
            failure.sentence.starts_with(expected),
            "{}",
            failure.sentence
        );
    }
}
