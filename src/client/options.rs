//! # Options: where to connect and how
//!
//! ```text
//! amqp://user:password@host:5672/%2f?heartbeat=10&frame_max=131072
//!        └── login ──┘ └ place ┘ └┬┘ └ our offers in the handshake, which the broker may lower
//!                                 └ the virtual host, percent-encoded: %2f is "/", and so is no path at all
//! ```
//!
//! The surprise is the path: it is a name and not a way, so `/` alone is the virtual host with the empty name. A
//! parameter that nobody knows is refused, or a spelling mistake would leave somebody without the limit that he asked
//! for.
//!
//! Read next: [`endpoints`](super::endpoints). Explained in `docs/03-handshake.md`.

use std::{str::FromStr, time::Duration};

use fluent_uri::{
    Uri,
    component::Host,
    pct_enc::{EStr, Encoder},
};

use super::error::Error;
use crate::{
    codec::{FRAME_MIN_SIZE, FieldTable, ShortString},
    protocol::{ClientConfig, Credentials, Mechanism},
};

/// The port of AMQP without TLS.
pub const PORT: u16 = 5672;

/// Where to connect and how. Parsed from a URI, and changed by methods.
///
/// ```
/// use amqp_rpc::client::ConnectOptions;
///
/// let options: ConnectOptions = "amqp://guest:guest@localhost:5672/%2f?heartbeat=10&connection_timeout=2000".parse()?;
/// assert_eq!(options.address(), "localhost:5672");
/// # Ok::<(), amqp_rpc::client::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) config: ClientConfig,
    pub(crate) operation_timeout: Duration,
    pub(crate) consumer_octets: usize,
    pub(crate) own_thread: bool,
}

impl Default for ConnectOptions {
    /// `amqp://guest:guest@localhost:5672/%2f`
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: PORT,
            config: ClientConfig::default(),
            operation_timeout: Duration::from_secs(30),
            consumer_octets: 8 << 20,
            own_thread: false,
        }
    }
}

impl ConnectOptions {
    /// Host and port, as one would write them.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The virtual host.
    pub fn virtual_host(&self) -> &ShortString {
        &self.config.virtual_host
    }

    /// The login name.
    pub fn user(&self) -> &str {
        &self.config.credentials.user
    }

    /// Connects to another host and port.
    #[must_use]
    pub fn at(mut self, host: &str, port: u16) -> Self {
        (self.host, self.port) = (host.into(), port);
        self
    }

    /// Logs in as somebody else.
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.config.credentials = Credentials {
            user: user.into(),
            password: password.into(),
        };
        self
    }

    /// Insists on a mechanism.
    #[must_use]
    pub fn mechanism(mut self, mechanism: Mechanism) -> Self {
        self.config.mechanism = mechanism;
        self
    }

    /// The heartbeat interval in seconds; 0 turns heartbeats off. TUNE-9
    #[must_use]
    pub fn heartbeat(mut self, seconds: u16) -> Self {
        self.config.tuning.heartbeat = seconds;
        self
    }

    /// The longest frame in octets, 0 for no limit of our own. RabbitMQ 4 refuses less than 8192. TUNE-5
    #[must_use]
    pub fn frame_max(mut self, octets: u32) -> Self {
        self.config.tuning.frame_max = octets;
        self
    }

    /// The most channels, 0 for no limit of our own.
    #[must_use]
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.config.tuning.channel_max = channels;
        self
    }

    /// How long the TCP connection and the handshake may take, each. CONN-17
    #[must_use]
    pub fn connection_timeout(mut self, limit: Duration) -> Self {
        self.config.handshake_timeout = limit;
        self
    }

    /// How long an operation waits for its answer; 30 s unless told otherwise.
    #[must_use]
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// The largest body accepted from the broker, in octets; 16 MiB unless told otherwise. SEC-16
    #[must_use]
    pub fn body_limit(mut self, octets: u64) -> Self {
        self.config.body_limit = octets;
        self
    }

    /// How many octets of memory may wait for a consumer that the broker does not bound by a prefetch (no-ack, or
    /// prefetch 0) before the connection is no longer read, and for whoever takes a channel's returned messages; 8 MiB
    /// unless told otherwise.
    #[must_use]
    pub fn consumer_octets(mut self, octets: usize) -> Self {
        self.consumer_octets = octets;
        self
    }

    /// Runs the connection on a thread of its own, named `amqp`: a task that blocks its thread then costs no heartbeat, even
    /// where there is one thread for all tasks. It costs a thread, and a switch between threads for each burst.
    #[must_use]
    pub fn own_thread(mut self) -> Self {
        self.own_thread = true;
        self
    }

    /// Entries for client-properties besides ours, as `connection_name`; together at most about 3 KiB.
    #[must_use]
    pub fn client_properties(mut self, properties: FieldTable) -> Self {
        self.config.properties = properties;
        self
    }
}

/// The URI scheme of RabbitMQ: no path means the virtual host `/`, and a path of `/` alone means the empty name.
impl FromStr for ConnectOptions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Never the text itself: it may hold a password. SASL-12
        let uri = Uri::parse(text).map_err(|why| Error::Uri(format!("not a URI: {why}")))?;
        match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "amqp" => {}
            "amqps" => {
                return Err(Error::Uri(
                    "amqps:// (TLS) is not supported yet; use amqp://".into(),
                ));
            }
            other => {
                return Err(Error::Uri(format!(
                    "expected a URI that begins with amqp://, got {other}:"
                )));
            }
        }
        let Some(authority) = uri.authority() else {
            return Err(Error::Uri("expected amqp://host, got no host".into()));
        };
        let mut options = Self::default();
        match authority.host_parsed() {
            Host::RegName(name) if name.is_empty() => {}
            Host::RegName(name) => options.host = decode(name)?,
            _ => options.host = authority.host().trim_matches(['[', ']']).into(),
        }
        if let Some(port) = authority.port().filter(|port| !port.is_empty()) {
            options.port = number("port", port.as_str())?;
        }
        if let Some(userinfo) = authority.userinfo() {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, EStr::EMPTY));
            options = options.credentials(&decode(user)?, &decode(password)?);
        }
        if let Some((_, name)) = uri.path().split_once('/') {
            options.config.virtual_host = ShortString::try_from(decode(name)?)?;
        }
        for pair in uri
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter(|pair| !pair.is_empty())
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, EStr::EMPTY));
            options = options.parameter(&decode(key)?, &decode(value)?)?;
        }
        Ok(options)
    }
}

impl ConnectOptions {
    fn parameter(self, key: &str, value: &str) -> Result<Self, Error> {
        Ok(match key {
            "heartbeat" => self.heartbeat(number(key, value)?),
            "channel_max" => self.channel_max(number(key, value)?),
            "frame_max" => match number(key, value)? {
                octets @ (0 | FRAME_MIN_SIZE..) => self.frame_max(octets),
                few => {
                    return Err(Error::Uri(format!(
                        "frame_max is at least {FRAME_MIN_SIZE}, got {few}"
                    )));
                } // TUNE-5
            },
            "connection_timeout" => {
                self.connection_timeout(Duration::from_millis(number(key, value)?))
            }
            other => {
                let known = "heartbeat, channel_max, frame_max and connection_timeout (ms)";
                return Err(Error::Uri(format!(
                    "unknown parameter {other:?}: known are {known}"
                )));
            }
        })
    }
}

fn decode<E: Encoder>(text: &EStr<E>) -> Result<String, Error> {
    match text.decode().to_string() {
        Ok(text) => Ok(text.into_owned()),
        // Not the text: it may be the password. SASL-12
        Err(_) => Err(Error::Uri(
            "a part of it is not UTF-8 once its percent signs are decoded".into(),
        )),
    }
}

fn number<T: FromStr>(what: &str, text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::Uri(format!("{what} is not a number in range: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ConnectOptions {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_left_out_is_as_rabbitmq_has_it() {
        for text in [
            "amqp://",
            "amqp://localhost",
            "amqp://guest:guest@localhost:5672/%2f",
            "AMQP://localhost:",
        ] {
            let options = parsed(text);
            assert_eq!(options.address(), "localhost:5672", "{text}");
            assert_eq!(
                (options.user(), options.virtual_host().as_str()),
                ("guest", Ok("/")),
                "{text}"
            );
        }
    }

    #[test]
    fn names_are_percent_decoded() {
        let options = parsed("amqp://us%40er:p%3a%2Fw@h%6fst/tenant%2F42");
        assert_eq!(
            options.config.credentials,
            Credentials {
                user: "us@er".into(),
                password: "p:/w".into()
            }
        );
        assert_eq!(
            (options.host.as_str(), options.virtual_host().as_str()),
            ("host", Ok("tenant/42"))
        );
        assert_eq!(
            parsed("amqp://host/").virtual_host().as_str(),
            Ok(""),
            "the empty name is a name"
        );
        assert_eq!(parsed("amqp://[::1]:9/v").address(), "[::1]:9");
    }

    #[test]
    fn parameters_are_checked() {
        let options =
            parsed("amqp://h?heartbeat=0&frame_max=8192&channel_max=7&connection_timeout=1500");
        let tuning = options.config.tuning;
        assert_eq!(
            (tuning.heartbeat, tuning.frame_max, tuning.channel_max),
            (0, 8192, 7)
        );
        assert_eq!(
            options.config.handshake_timeout,
            Duration::from_millis(1500)
        );
    }

    #[test]
    fn a_refusal_says_what_and_why() {
        let refused = [
            ("localhost", "not a URI"),
            ("http://localhost", "amqp://"),
            ("amqps://localhost", "TLS"),
            ("amqp://h:70000", "port"),
            ("amqp://h?heartbeat=often", "heartbeat"),
            ("amqp://h?frame_max=100", "at least 4096"),
            ("amqp://h?prefetch=1", "unknown parameter"),
            ("amqp://h/%ff", "UTF-8"),
            ("amqp://u:secret%ff@h", "UTF-8"),
        ];
        for (text, says) in refused {
            let error = text.parse::<ConnectOptions>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("secret"), "SASL-12: {error}");
        }
        let long = format!("amqp://h/{}", "v".repeat(256));
        assert!(matches!(
            long.parse::<ConnectOptions>(),
            Err(Error::TooLong(_))
        ));
    }
}
