//! What becomes of a call whose server dies: the real `server` program is killed, by SIGKILL, at every moment at which
//! that makes a difference. A proxy between it and the broker holds the frame that marks the moment, so the library
//! has no hook for this, and no test depends on how fast anything is.
//!
//! ```text
//! cargo test --test crashes
//! AMQP_TEST_URL=amqp://guest:guest@localhost:5672/%2f cargo test --test crashes -- --ignored
//! ```
//!
//! `docs/rpc.md` has the table that these tests are the proof of.
// A panic is how a test reports.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used
)]
#![allow(clippy::wildcard_imports, missing_docs, unreachable_pub)]

mod docs;
mod processes;
mod proxy;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../scenarios/world.rs"]
#[allow(dead_code)] // the scenarios use all of it
#[macro_use]
mod world;

use std::time::Duration;

use amqp_rpc::rpc::CallOptions;

/// A bound, which a slow machine does not meet.
const PATIENTLY: CallOptions = CallOptions {
    timeout: Some(Duration::from_mins(1)),
    idempotent: false,
};

on_both_brokers! {
    const CRASHES;
    table:
        before_the_work
        in_the_work
        after_the_work
        after_the_reply
        before_the_ack
        after_the_ack
        in_the_work_of_the_last_server;
    restarts:
        three_servers_restarted_in_turn
        three_servers_killed_in_turn;
}
