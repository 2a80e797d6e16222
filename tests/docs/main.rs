//! The pages, held to the code: each module here is one thing that a page says and that a test compares.
//!
//! `BLESS=1 cargo test --test docs` writes anew what can be written from the code: labels of dumps, answers of the
//! broker, numbers of lines, tables, the conversation. `BLESS=07-consuming` does so on the pages whose path has that in
//! it. Whoever reviews the change reads the difference.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

mod chapters;
mod code;
mod conversation;
mod dumps;
mod generated;
mod links;
mod listings;
mod pages;
mod rendering;
mod rules;
mod session;
