//! # SASL: two ways to say who one is
//!
//! ```text
//! PLAIN      00 "guest" 00 "guest"                                      NUL user NUL password
//! AMQPLAIN   05 "LOGIN" 'S' 00 00 00 05 "guest" 08 "PASSWORD" 'S' ...   the inside of a field table
//! ```
//!
//! The broker offers mechanisms by name, separated by spaces; the client chooses by name too, since the order means
//! nothing and RabbitMQ 4 offers ANONYMOUS first (CONN-4, CONN-5).
//!
//! Read next: [`tuning`](super::tuning). Explained in `docs/03-handshake.md`.

use bytes::{Bytes, BytesMut};

use crate::{
    codec::{FieldTable, Secret, ShortString, args::ArgWriter, table},
    short,
};

/// A user and a password. `Debug` does not show the password. SASL-12
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The login name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// guest/guest: every RabbitMQ has it, and lets it in from loopback only. SASL-11
    pub fn guest() -> Self {
        Self {
            user: "guest".into(),
            password: "guest".into(),
        }
    }

    /// Takes the same time wherever the difference is. SASL-10
    pub(crate) fn match_in_constant_time(&self, claimed: &Self) -> bool {
        same(&self.user, &claimed.user) & same(&self.password, &claimed.password)
    }
}

fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Credentials {{ user: {:?}, password: (hidden) }}",
            self.user
        )
    }
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mechanism {
    /// PLAIN if it is offered, else AMQPLAIN.
    #[default]
    Any,
    /// NUL, user, NUL, password. SASL-1
    Plain,
    /// The inside of a field table with LOGIN and PASSWORD. SASL-4
    Amqplain,
}

impl Mechanism {
    /// The client's choice among what is `offered`, and its response; `None` when nothing fits.
    pub(crate) fn respond(
        self,
        offered: &str,
        credentials: &Credentials,
    ) -> Option<(ShortString, Secret)> {
        let offers = |name| offered.split(' ').any(|offer| offer == name);
        if self != Self::Amqplain && offers("PLAIN") {
            Some((short!("PLAIN"), Secret(plain(credentials))))
        } else if self != Self::Plain && offers("AMQPLAIN") {
            Some((short!("AMQPLAIN"), Secret(amqplain(credentials))))
        } else {
            None
        }
    }
}

/// A mechanism that the broker does not know. SASL-9
#[derive(Debug)]
pub(crate) struct NotOffered;

/// What a broker reads from a response, if it can be read at all.
pub(crate) fn claimed(
    mechanism: &str,
    response: &Bytes,
) -> Result<Option<Credentials>, NotOffered> {
    match mechanism {
        "PLAIN" => Ok(read_plain(response)),
        "AMQPLAIN" => Ok(read_amqplain(response)),
        _ => Err(NotOffered),
    }
}

fn plain(Credentials { user, password }: &Credentials) -> Bytes {
    format!("\0{user}\0{password}").into()
}

/// Nothing else: no authorisation id in front, no third NUL. SASL-2
fn read_plain(response: &[u8]) -> Option<Credentials> {
    let text = std::str::from_utf8(response).ok()?;
    let (user, password) = text.strip_prefix('\0')?.split_once('\0')?;
    (!password.contains('\0')).then(|| Credentials {
        user: user.into(),
        password: password.into(),
    })
}

/// Entries of a table, without the table's own length. SASL-4
fn amqplain(Credentials { user, password }: &Credentials) -> Bytes {
    let mut table = FieldTable::EMPTY;
    table.insert(short!("LOGIN"), user.clone());
    table.insert(short!("PASSWORD"), password.clone());
    let mut octets = BytesMut::new();
    table.encode_entries(&mut ArgWriter::new(&mut octets));
    octets.freeze()
}

fn read_amqplain(response: &Bytes) -> Option<Credentials> {
    let entries = FieldTable(table::entries(response, 1).ok()?);
    let text = |name| String::from_utf8(entries.get(name)?.as_long_string()?.to_vec()).ok();
    Some(Credentials {
        user: text("LOGIN")?,
        password: text("PASSWORD")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_nul_user_nul_password() {
        // SASL-1, SASL-2
        assert_eq!(plain(&Credentials::guest())[..], *b"\0guest\0guest");
        assert_eq!(read_plain(b"\0guest\0guest"), Some(Credentials::guest()));
        for refused in [
            &b"guest\0guest"[..],
            b"\0guest",
            b"",
            b"x\0guest\0guest",
            b"\0guest\0guest\0",
        ] {
            assert_eq!(read_plain(refused), None, "{}", refused.escape_ascii());
        }
    }

    #[test]
    fn amqplain_is_the_inside_of_a_table() {
        // SASL-4
        let response = amqplain(&Credentials::guest());
        assert_eq!(
            response[..],
            *b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest"
        );
        assert_eq!(read_amqplain(&response), Some(Credentials::guest()));
        assert_eq!(read_amqplain(&response.slice(..16)), None, "no password");
    }

    #[test]
    fn a_mechanism_is_chosen_by_its_name() {
        // CONN-5: the first of RabbitMQ 4's offer would log in as somebody else.
        let chosen = |offered| {
            let choice = Mechanism::Any.respond(offered, &Credentials::guest());
            choice.map(|(mechanism, _)| mechanism.to_string())
        };
        assert_eq!(chosen("ANONYMOUS AMQPLAIN PLAIN").as_deref(), Some("PLAIN"));
        assert_eq!(chosen("ANONYMOUS AMQPLAIN").as_deref(), Some("AMQPLAIN"));
        assert_eq!(chosen("EXTERNAL"), None);

        let names = |mechanism: Mechanism| {
            let offers = ["PLAIN", "AMQPLAIN", "PLAIN AMQPLAIN"];
            offers.map(|offered| {
                let choice = mechanism.respond(offered, &Credentials::guest());
                choice.map(|(name, _)| name.to_string()).unwrap_or_default()
            })
        };
        assert_eq!(names(Mechanism::Plain), ["PLAIN", "", "PLAIN"]);
        assert_eq!(names(Mechanism::Amqplain), ["", "AMQPLAIN", "AMQPLAIN"]);
    }

    #[test]
    fn credentials_are_compared_whole_and_never_printed() {
        // SASL-10, SASL-12
        let mine = Credentials {
            user: "me".into(),
            password: "sesame".into(),
        };
        let close = Credentials {
            password: "sesamE".into(),
            ..mine.clone()
        };
        let other = Credentials {
            user: "you".into(),
            ..mine.clone()
        };
        let longer = Credentials {
            password: "sesame2".into(),
            ..mine.clone()
        };
        assert!(mine.match_in_constant_time(&mine));
        // Two differences, each of the same bits.
        let swapped = Credentials {
            password: "seasme".into(),
            ..mine.clone()
        };
        for claimed in [close, other, longer, swapped] {
            assert!(!mine.match_in_constant_time(&claimed), "{claimed:?}");
        }
        let shown = format!("{mine:?}");
        assert!(shown.contains("me") && !shown.contains("sesame"));
    }
}
