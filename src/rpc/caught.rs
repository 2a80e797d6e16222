//! A panic in a handler is an error of one request, and no other hears of it.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
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

/// Runs a future to its end or to its panic; it may panic as it is made, too.
pub(super) async fn caught<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, Panic> {
    let future = catch_unwind(AssertUnwindSafe(make)).map_err(Panic)?;
    let mut future = pin!(future);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Err(Panic(panic)).into(),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
