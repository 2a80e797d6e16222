//! # Caught: a panic is an error of one request
//!
//! ```text
//! handler 1   ── works ────────────── reply ──▶ ack
//! handler 2   ── works ── panic ─┐
//!                                └ caught ── error reply ──▶ reject: it would only panic again (RPC-18)
//! ```
//!
//! It may come as the future is made, as it is polled, or as it is dropped at its deadline; each is caught. What the
//! panic says is for the log of this side: it may tell what no stranger should know.
//!
//! Read next: `dead_ends`. Explained in `docs/rpc.md`.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

/// What a panic said, if it said anything.
pub(super) struct Panic(Box<dyn Any + Send>);

impl Panic {
    /// For the log of this side alone: it may tell what no stranger should know.
    pub(super) fn message(&self) -> &str {
        let text = self.0.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| self.0.downcast_ref::<&str>().copied());
        text.unwrap_or("no text")
    }
}

/// Runs a future to its end or to its panic. It may panic as it is made, and as it is dropped, too.
pub(super) async fn caught<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, Panic> {
    let future = catch_unwind(AssertUnwindSafe(make)).map_err(Panic)?;
    let mut contained = Contained(Some(Box::pin(future)));
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| match &mut contained.0 {
            Some(future) => future.as_mut().poll(context).map(Ok),
            None => std::task::Poll::Pending, // it is only taken to be dropped
        });
        catch_unwind(poll).unwrap_or_else(|panic| Err(Panic(panic)).into())
    })
    .await
}

/// A future whose panic, as it is dropped at its deadline, ends here as well.
struct Contained<F>(Option<Pin<Box<F>>>);

impl<F> Drop for Contained<F> {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.0.take())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("as it is dropped");
        }
    }

    #[tokio::test]
    async fn a_panic_is_caught_wherever_it_happens() {
        assert_eq!(caught(async || 1).await.map_err(drop), Ok(1));
        let at_once = caught(|| -> std::future::Ready<()> { panic!("at once") }).await;
        assert_eq!(at_once.unwrap_err().message(), "at once");
        let later = caught(async || {
            tokio::task::yield_now().await;
            panic!("number {}", 2)
        });
        let later: Result<(), _> = later.await;
        assert_eq!(later.unwrap_err().message(), "number 2");
        let dropped = caught(async || {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        });
        let limit = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(limit, dropped).await.is_err());
    }
}
