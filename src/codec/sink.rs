//! # The sink: octets go into a buffer, or only into a count
//!
//! ```text
//! a table:  00 00 00 00                          a place for the length, which nobody knows yet
//!           00 00 00 00  01 6b 49 ff ff ff ff    the entries: "k" = -1
//!           00 00 00 07  01 6b 49 ff ff ff ff    back to the place: 7 octets
//! ```
//!
//! Lengths stand before what they measure, a frame's as well as a table's. So a place is left open for each, all is
//! written in one pass, and the length is filled in. Where only the size matters, the same encoder writes into a count.
//!
//! Read next: chapter 2, [`protocol`](crate::protocol). Explained in `docs/02-values.md`.

use bytes::BytesMut;

use super::table::length_of;

/// Takes octets in the order of the wire.
pub trait Sink {
    /// Appends `octets`.
    fn put(&mut self, octets: &[u8]);

    /// How many octets there are so far.
    fn position(&self) -> usize;

    /// Fills in the four octets before `start`: how many octets there are from there on.
    ///
    /// A length stands before what it measures, and tables nest. To measure first and write then would go through the
    /// innermost table twice for each table around it: 2^64 times at the depth limit, for a frame of 400 octets.
    fn set_length_before(&mut self, start: usize);
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }

    fn position(&self) -> usize {
        self.len()
    }

    fn set_length_before(&mut self, start: usize) {
        let length = length_of(self.len() - start).to_be_bytes();
        if let Some(place) = start.checked_sub(4).and_then(|at| self.get_mut(at..start)) {
            place.copy_from_slice(&length);
        }
    }
}

/// Counts what would be written, so that a size is known without the octets.
#[derive(Debug, Default)]
pub struct Count(pub usize);

impl Sink for Count {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.0 += octets.len();
    }

    fn position(&self) -> usize {
        self.0
    }

    fn set_length_before(&mut self, _: usize) {}
}
