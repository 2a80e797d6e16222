//! Chapter 2
pub mod content;
pub mod ledger;
