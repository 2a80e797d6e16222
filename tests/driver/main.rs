//! One task, one loop, and what may go wrong around it. The peer is a puppet: the test says every octet it sends, and
//! sees every octet it gets. Time is virtual wherever it matters: it moves on when everybody waits.
//!
//! Rule ids are those of `docs/rules.md`.
#![allow(
    unreachable_pub,
    clippy::similar_names, // a writer and its writes
    clippy::large_futures, // joins of many
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

mod broker;
mod calls;
mod closing;
mod dropping;
mod inbound;
mod lies;
mod outbound;
mod peer;
mod reconnecting;
mod serving;
