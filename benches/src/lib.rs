//! What the measuring programs share.

pub mod plot;
pub mod process;
pub mod work;
