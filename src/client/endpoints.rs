//! # Endpoints: several brokers that are one to their users
//!
//! ```text
//! "amqp://me:pw@one,two:5673/jobs  amqp://elsewhere"
//!       └─▶ one:5672/jobs ─▶ two:5673/jobs ─▶ elsewhere:5672/%2f     in this order, and then from the front again
//! ```
//!
//! Any node of a cluster leads to all of its queues, so any of them will do. RFC 3986 knows one host in a URI: a list
//! of them is taken apart before anything is read as one, and each host has the login and the path of its list. Who
//! tries them in turn is `rpc/reconnect.rs`; a [`Connection`](super::Connection) goes to one place.
//!
//! Read next: `dial`. Explained in `docs/rpc.md`.

use std::str::FromStr;

use super::{error::Error, options::ConnectOptions};

/// Where a connection may go, in the order of preference: at least one place.
///
/// A URI may name several hosts, and several URIs may follow one another, separated by spaces:
///
/// ```
/// use amqp_rpc::client::Endpoints;
///
/// let cluster: Endpoints = "amqp://guest:guest@one,two:5673/%2f?heartbeat=10 amqp://elsewhere".parse()?;
/// let addresses: Vec<_> = cluster.iter().map(|endpoint| endpoint.address()).collect();
/// assert_eq!(addresses, ["one:5672", "two:5673", "elsewhere:5672"]);
/// # Ok::<(), amqp_rpc::client::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Endpoints(Vec<ConnectOptions>);

impl Endpoints {
    /// The places, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, ConnectOptions> {
        self.0.iter()
    }

    /// Changes how to connect, the same for every place.
    #[must_use]
    pub fn map(self, change: impl Fn(ConnectOptions) -> ConnectOptions) -> Self {
        Self(self.0.into_iter().map(change).collect())
    }
}

/// `amqp://guest:guest@localhost:5672/%2f`
impl Default for Endpoints {
    fn default() -> Self {
        ConnectOptions::default().into()
    }
}

impl<'a> IntoIterator for &'a Endpoints {
    type Item = &'a ConnectOptions;
    type IntoIter = std::slice::Iter<'a, ConnectOptions>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<ConnectOptions> for Endpoints {
    fn from(options: ConnectOptions) -> Self {
        Self(vec![options])
    }
}

impl FromStr for Endpoints {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut endpoints = Vec::new();
        for uri in text.split_whitespace() {
            for host in one_per_host(uri) {
                endpoints.push(host.parse()?);
            }
        }
        if endpoints.is_empty() {
            return Err(Error::Uri("expected amqp://host, got nothing".into()));
        }
        Ok(Self(endpoints))
    }
}

impl TryFrom<&str> for Endpoints {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoints {
    type Error = Error;
    fn try_from(text: &String) -> Result<Self, Error> {
        text.parse()
    }
}

/// RFC 3986 knows one host in a URI, so a list of them is taken apart before a URI is read. A comma in the password is
/// none of ours: the last `@` ends it.
fn one_per_host(uri: &str) -> Vec<String> {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    if scheme.is_empty() || !hosts.contains(',') {
        return vec![uri.to_owned()];
    }
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{login}{host}{path}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        let endpoints: Endpoints = text.parse().unwrap();
        endpoints.iter().map(ConnectOptions::address).collect()
    }

    #[test]
    fn a_uri_may_name_several_hosts() {
        assert_eq!(addresses("amqp://one"), ["one:5672"]);
        assert_eq!(
            addresses("amqp://u:p@[::1]:1,two,10.0.0.3:3/v"),
            ["[::1]:1", "two:5672", "10.0.0.3:3"]
        );
        assert_eq!(
            addresses(" amqp://a\n amqp://b,c "),
            ["a:5672", "b:5672", "c:5672"]
        );
    }

    #[test]
    fn every_host_has_the_login_and_the_path_of_its_uri() {
        let endpoints: Endpoints = "amqp://me:a,b@one,two/there".parse().unwrap();
        for endpoint in &endpoints {
            assert_eq!(
                (endpoint.user(), endpoint.virtual_host()),
                ("me", &crate::short!("there"))
            );
        }
        assert_eq!(endpoints.iter().count(), 2);
    }

    #[test]
    fn nothing_is_no_place_to_go() {
        // SASL-12: and no message repeats what may be a password
        for bad in ["", "  ", "one,two", "amqp://u:secret@one,two:x/"] {
            let error = bad.parse::<Endpoints>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
