//! # The sink: octets go into a buffer, or only into a count
//!
//! ```text
//! a table:  00 00 00 00                          a place for the length, which nobody knows yet
//!           00 00 00 00  01 6b 49 ff ff ff ff    the entries: "k" = -1
//!           00 00 00 07  01 6b 49 ff ff ff ff    back to the place: 7 octets
//! ```
//!
//! Lengths stand before what they measure, a frame's as well as a table's, and flags before the properties they announce.
//! So a place is left open for each, all is written in one pass, and what belongs there is filled in. Where only the size
//! matters, the same encoder writes into a count.
//!
//! Read next: chapter 2, [`protocol`](crate::protocol). Explained in `docs/02-values.md`.

use bytes::BytesMut;

/// Takes octets in the order of the wire.
pub trait Sink {
    /// Appends `octets`.
    fn put(&mut self, octets: &[u8]);

    /// How many octets there are so far.
    fn position(&self) -> usize;

    /// Fills in octets that were written as a mere place, `at` being the position of the first of them.
    ///
    /// A length stands before what it measures, and tables nest. To measure first and write then would go through the
    /// innermost table twice for each table around it: 2^64 times at the depth limit, for a frame of 400 octets.
    fn fill_in<const N: usize>(&mut self, at: usize, octets: [u8; N]);
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }

    #[inline]
    fn position(&self) -> usize {
        self.len()
    }

    #[inline]
    fn fill_in<const N: usize>(&mut self, at: usize, octets: [u8; N]) {
        if let Some(place) = self.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = octets;
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

    fn fill_in<const N: usize>(&mut self, _: usize, _: [u8; N]) {}
}
