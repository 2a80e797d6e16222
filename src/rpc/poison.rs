//! # Poison: requests that came back too often
//!
//! ```text
//! quorum queue    x-delivery-count  none 1   2   3   4   5   6 ─▶ given up: an error reply, and a reject
//! classic queue   redelivered       no   yes yes yes ..      ─▶ counts as once, however often it came back
//! ```
//!
//! A request whose server died must be worked on again (RPC-24), and one that kills every server must not go round for
//! ever (RPC-23). From outside both look the same, so what decides is how often it came back.
//!
//! Read next: `caught`. Explained in `docs/14-crashes.md`.

use super::error_reply::HandlerError;
use crate::client::Received;

/// The header in which a quorum queue counts. PROP-16
const DELIVERY_COUNT: &str = "x-delivery-count";

/// How often a request was delivered before and not settled. What a publisher writes into the header on its own is not
/// believed: a first delivery is a first delivery.
pub(super) fn earlier_deliveries(request: &Received) -> u64 {
    if !request.redelivered {
        return 0;
    }
    let headers = request.properties().headers.as_ref();
    let count = headers.and_then(|headers| headers.get(DELIVERY_COUNT)?.as_integer());
    count.map_or(1, |count| u64::try_from(count).unwrap_or(0))
}

/// An error in place of another attempt, if there were enough of them.
pub(super) fn check(request: &Received, most: u64) -> Result<(), HandlerError> {
    let earlier = earlier_deliveries(request);
    if earlier <= most {
        return Ok(());
    }
    let times = match earlier {
        1 => "once".into(),
        many => format!("{many} times"),
    };
    let text = format!("given up: the request was delivered {times} before and never answered");
    Err(HandlerError::new("poison", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::Message,
        codec::{FieldTable, Properties},
        short,
    };

    fn request(redelivered: bool, count: Option<i64>) -> Received {
        let header = |count: i64| FieldTable(vec![(short!("x-delivery-count"), count.into())]);
        let properties = Properties {
            headers: count.map(header),
            ..Default::default()
        };
        Received {
            exchange: short!(""),
            routing_key: short!("q"),
            redelivered,
            message: Message::new(properties, ""),
        }
    }

    #[test]
    fn a_quorum_queue_counts_and_a_classic_one_says_again() {
        // RPC-23
        assert_eq!(earlier_deliveries(&request(false, None)), 0);
        assert_eq!(earlier_deliveries(&request(true, None)), 1);
        assert_eq!(earlier_deliveries(&request(true, Some(7))), 7);
        assert_eq!(earlier_deliveries(&request(false, Some(7))), 0, "forged");
        assert_eq!(earlier_deliveries(&request(true, Some(-1))), 0);
    }

    #[test]
    fn only_beyond_the_limit_is_a_request_given_up() {
        // RPC-23, RPC-24: a server that died once is no reason to refuse.
        assert_eq!(check(&request(true, None), 1), Ok(()));
        assert_eq!(check(&request(true, Some(5)), 5), Ok(()));
        let given_up = check(&request(true, Some(6)), 5).unwrap_err();
        assert_eq!(given_up.kind, "poison");
        assert!(given_up.message.contains("6 times"), "{given_up}");
        assert!(check(&request(true, None), 0).is_err());
    }
}
