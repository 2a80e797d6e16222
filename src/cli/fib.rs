//! # Fib: the work itself, by the recursion that takes long on purpose
//!
//! ```text
//! "30" ─▶ parse ─▶ fib(30) on a thread that may block ─▶ "832040"
//!                      └ looks at the clock and the flag about every millisecond: nobody waits? it stops
//! ```
//!
//! A future that is dropped stops at its next await, and a recursion has none. Work that should end when its caller has
//! given up has to ask for itself (RPC-10).
//!
//! This is the last module. Go on with the exercises at the end of each chapter in `docs/`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use super::say;
use crate::rpc::{Deadline, HandlerError, Request, RpcError};

/// The largest number whose Fibonacci number fits 64 bits.
pub const LARGEST: u8 = 93;

/// How many calls the recursion makes between two looks at the clock: about a millisecond's worth.
const CALLS_BETWEEN_LOOKS: u32 = 1 << 18;

/// Answers `30` with `832040`.
///
/// # Errors
/// `bad-request` for anything but a whole number from 0 to 93.
///
/// # Cancel safety
/// A dropped future stops the work soon after.
pub async fn serve(request: Request) -> Result<Bytes, HandlerError> {
    let n = parse(&request.body)?;
    say(format_args!(" [.] fib({n})"));
    let abandoned = Arc::new(AtomicBool::new(false));
    let _guard = SetOnDrop(abandoned.clone());
    let deadline = request.deadline;
    // On a thread where it may block: the connection's task goes on beside it.
    let work = tokio::task::spawn_blocking(move || fib(n, deadline, &abandoned));
    match work.await {
        Ok(Some(number)) => Ok(number.to_string().into()),
        // The deadline has passed, so the server answers in our place, if anybody is left to hear it.
        Ok(None) => std::future::pending().await,
        Err(failed) => Err(HandlerError::new("failed", failed.to_string())),
    }
}

/// Reads a request.
///
/// # Errors
/// `bad-request`, with what was expected.
pub fn parse(body: &[u8]) -> Result<u8, HandlerError> {
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    text.parse().ok().filter(|n| *n <= LARGEST).ok_or_else(|| {
        let shown = body.get(..32).unwrap_or(body).escape_ascii();
        HandlerError::bad_request(format!(
            "expected a whole number from 0 to {LARGEST}, got \"{shown}\""
        ))
    })
}

/// Reads a reply.
///
/// # Errors
/// `Decode` for anything but a whole number.
pub fn result(body: &[u8]) -> Result<u64, RpcError> {
    let number = std::str::from_utf8(body)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        let shown = body.get(..32).unwrap_or(body).escape_ascii();
        RpcError::Decode(format!("expected a whole number, got \"{shown}\""))
    })
}

/// The same for a command line.
///
/// # Errors
/// What was expected.
pub fn argument(text: &str) -> Result<u8, String> {
    parse(text.as_bytes()).map_err(|error| error.message)
}

/// The same number, known at once: what a reply is compared with. `n` is 93 at most.
pub fn number(n: u8) -> u64 {
    (0..n)
        .fold((0, 1), |(this, next): (u64, u64), _| {
            (next, this.wrapping_add(next)) // the one after the last does not fit, and is not needed
        })
        .0
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn fib(n: u8, deadline: Deadline, abandoned: &AtomicBool) -> Option<u64> {
    let mut calls = 0;
    let mut go_on = || {
        calls += 1;
        calls % CALLS_BETWEEN_LOOKS != 0
            || !(deadline.is_over() || abandoned.load(Ordering::Relaxed))
    };
    recurse(n, &mut go_on)
}

/// fib(n) = fib(n - 1) + fib(n - 2), as the tutorial has it.
fn recurse(n: u8, go_on: &mut impl FnMut() -> bool) -> Option<u64> {
    match n {
        _ if !go_on() => None,
        0 | 1 => Some(n.into()),
        _ => Some(recurse(n - 1, go_on)? + recurse(n - 2, go_on)?),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_numbers_are_right() {
        let later = Deadline::after(Duration::from_mins(1));
        let first: Vec<_> = (0..10)
            .filter_map(|n| fib(n, later, &AtomicBool::new(false)))
            .collect();
        assert_eq!(first, [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]);
        assert_eq!((0..10).map(number).collect::<Vec<_>>(), first);
        assert_eq!(number(LARGEST), 12_200_160_415_121_876_738);
    }

    #[test]
    fn work_that_nobody_waits_for_stops() {
        assert_eq!(
            fib(93, Deadline::after(Duration::ZERO), &AtomicBool::new(false)),
            None
        );
        assert_eq!(
            fib(
                93,
                Deadline::after(Duration::from_mins(1)),
                &AtomicBool::new(true)
            ),
            None
        );
    }

    #[test]
    fn what_is_no_number_in_range_is_refused_with_a_sentence() {
        assert_eq!(parse(b" 30\n"), Ok(30));
        for bad in ["", "abc", "-1", "94", "1e3", "\u{ff}"] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind, "bad-request");
            assert!(
                error
                    .message
                    .starts_with("expected a whole number from 0 to 93, got "),
                "{error}"
            );
        }
    }
}
