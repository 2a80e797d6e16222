//! # Names: what the broker makes up where a client leaves it empty
//!
//! ```text
//! amq.gen-AAECAwQFBgcICQoLDA0ODw                  a queue (QUEUE-1)
//! amq.ctag-AAECAwQFBgcICQoLDA0ODw                 a consumer (CONS-1)
//! amq.rabbitmq.reply-to.AAECAwQFBgcICQoLDA0ODw    whoever waits for direct replies (DRT-3)
//!          └─ 16 random octets in base64 ─┘
//! ```
//!
//! The last one is the address of a reply, and there is no other lock on it: whoever can guess the token can answer in
//! somebody's place, so it must be unguessable (DRT-11). A transcript, on the other hand, must read the same on every
//! run; there names are numbered.
//!
//! Read next: [`vhost`](super::vhost). Explained in `docs/13-reply-addresses.md`.

use uuid::Uuid;

use crate::codec::ShortString;

/// Where the tokens in names come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NameSource {
    /// 22 characters of URL-safe base64 over 16 random octets, as RabbitMQ makes them.
    #[default]
    Random,
    /// 1, 2, 3 ..: for documents and tests, because anybody can guess them. Holds the last number given.
    Numbered(u64),
}

impl NameSource {
    /// `prefix` and a token that was not given before.
    pub fn name(&mut self, prefix: &str) -> ShortString {
        ShortString::truncated(&format!("{prefix}{}", self.token()))
    }

    fn token(&mut self) -> String {
        match self {
            Self::Random => base64(Uuid::new_v4().as_u128()),
            Self::Numbered(last) => {
                *last += 1;
                last.to_string()
            }
        }
    }
}

/// 128 bits, six at a time from the high end; the last character holds the two that are left.
fn base64(bits: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sixes = (0..21).map(|n| bits >> (122 - 6 * n)).chain([bits << 4]);
    sixes
        .filter_map(|six| ALPHABET.get(usize::from((six & 63) as u8)))
        .map(|&letter| char::from(letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_token_is_sixteen_octets_in_base64() {
        // QUEUE-1: checked against `printf '\x00\x01..\x0f' | basenc --base64url`.
        assert_eq!(
            base64(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
            "AAECAwQFBgcICQoLDA0ODw"
        );
        let (one, other) = (NameSource::Random.token(), NameSource::Random.token());
        assert_eq!(one.len(), 22);
        assert_ne!(one, other, "DRT-11");
    }

    #[test]
    fn numbered_names_repeat_from_run_to_run() {
        let mut names = NameSource::Numbered(0);
        assert_eq!(names.name("amq.gen-"), "amq.gen-1");
        assert_eq!(names.name("amq.ctag-"), "amq.ctag-2");
    }
}
