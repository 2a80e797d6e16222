//! # Exchanges: where a message goes
//!
//! ```text
//! publish "logs" key "disk.full"
//!    │
//!  exchange "logs" topic ──"disk.*"──► queue "alarms"        a copy each, however many
//!                        └──"#"──────► exchange "archive"    bindings lead there (EXCH-4)
//!                                         └─ fanout ───────► queue "all"
//!  matched nothing? ──► its alternate-exchange
//! ```
//!
//! An exchange keeps no message. It holds bindings, and each of the four types reads them in its own way (EXCH-3).
//! Bindings may lead to other exchanges, in circles if somebody wants that, so routing is a walk over a graph that
//! enters every exchange once.
//!
//! Read next: [`matching`](super::matching). Explained in `docs/08-routing.md`.

use std::collections::{BTreeSet, HashMap};

use super::{
    account::{Share, shrink},
    matching::{headers_match, topic_matches},
};
use crate::{
    codec::{ExchangeDeclare, FieldTable, FieldValue, ShortString},
    short,
};

/// How an exchange reads its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Routing key equal to binding key.
    Direct,
    /// Every binding, whatever the key.
    Fanout,
    /// Words between dots, with `*` and `#`.
    Topic,
    /// The message's headers against the binding's arguments.
    Headers,
}

impl Kind {
    /// The type with this name in `exchange.declare`.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"direct" => Some(Self::Direct),
            b"fanout" => Some(Self::Fanout),
            b"topic" => Some(Self::Topic),
            b"headers" => Some(Self::Headers),
            _ => None,
        }
    }

    /// The name in `exchange.declare`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To a queue, by `queue.bind`.
    Queue(ShortString),
    /// To another exchange, by `exchange.bind`.
    Exchange(ShortString),
}

#[derive(Debug)]
struct Binding {
    destination: Destination,
    arguments: FieldTable,
    _share: Share,
}

impl Binding {
    fn is(&self, destination: &Destination, arguments: &FieldTable) -> bool {
        self.destination == *destination && self.arguments == *arguments
    }
}

/// One exchange and the bindings that lead from it.
#[derive(Debug)]
pub struct Exchange {
    /// How it reads its bindings.
    pub kind: Kind,
    /// Kept for comparison only: nothing here outlives the broker.
    pub durable: bool,
    /// It goes when the last of its bindings goes.
    pub auto_delete: bool,
    /// Clients may not publish to it; other exchanges may lead to it. EXCH-6
    pub internal: bool,
    /// As declared.
    pub arguments: FieldTable,
    /// By binding key, which is all that a direct exchange has to look at.
    bindings: HashMap<ShortString, Vec<Binding>>,
    /// The exchange for what none of them matches, as the arguments name it.
    alternate: Option<ShortString>,
    /// What it costs beside its bindings, unless it was there from the start.
    _share: Option<Share>,
}

impl Exchange {
    /// An exchange without bindings.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::EMPTY,
            bindings: HashMap::new(),
            alternate: None,
            _share: None,
        }
    }

    /// As a declare asks for it, without bindings.
    pub fn declared(kind: Kind, declare: ExchangeDeclare, share: Share) -> Self {
        Self {
            _share: Some(share),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            alternate: alternate(&declare.arguments),
            arguments: declare.arguments,
            ..Self::new(kind)
        }
    }

    /// Whether any binding leads from it: what `if-unused` asks.
    pub fn is_used(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Binding twice is one binding. EXCH-5
    fn bind(&mut self, key: ShortString, binding: Binding) {
        let bindings = self.bindings.entry(key).or_default();
        let Binding {
            destination,
            arguments,
            ..
        } = &binding;
        if !bindings
            .iter()
            .any(|bound| bound.is(destination, arguments))
        {
            bindings.push(binding);
        }
    }

    /// Removes one binding, and says whether the exchange has to follow it.
    fn unbind(
        &mut self,
        key: &ShortString,
        destination: &Destination,
        arguments: &FieldTable,
    ) -> bool {
        let Some(bindings) = self.bindings.get_mut(key) else {
            return false;
        };
        bindings.retain(|binding| !binding.is(destination, arguments));
        if bindings.is_empty() {
            self.bindings.remove(key);
            shrink(&mut self.bindings);
        }
        self.auto_delete && !self.is_used()
    }

    /// Removes every binding to `destination`, and says whether the exchange has to follow the last of its own.
    fn unbind_all(&mut self, destination: &Destination) -> bool {
        let was_used = self.is_used();
        self.bindings.retain(|_, bindings| {
            bindings.retain(|binding| binding.destination != *destination);
            !bindings.is_empty()
        });
        shrink(&mut self.bindings);
        self.auto_delete && was_used && !self.is_used()
    }

    fn matching<'a>(
        &'a self,
        keys: &'a [ShortString],
        headers: Option<&'a FieldTable>,
    ) -> Box<dyn Iterator<Item = &'a Binding> + 'a> {
        let all = self.bindings.iter();
        match self.kind {
            Kind::Direct => Box::new(
                keys.iter()
                    .filter_map(|key| self.bindings.get(key))
                    .flatten(),
            ),
            Kind::Fanout => Box::new(all.flat_map(|(_, bindings)| bindings)),
            Kind::Topic => Box::new(
                all.filter(|(pattern, _)| {
                    keys.iter()
                        .any(|key| topic_matches(pattern.as_bytes(), key.as_bytes()))
                })
                .flat_map(|(_, bindings)| bindings),
            ),
            Kind::Headers => Box::new(
                all.flat_map(|(_, bindings)| bindings)
                    .filter(move |binding| headers_match(&binding.arguments, headers)),
            ),
        }
    }
}

/// Where it sends what none of its bindings leads on.
fn alternate(arguments: &FieldTable) -> Option<ShortString> {
    let name = arguments.get("alternate-exchange");
    let name = name.and_then(FieldValue::as_long_string)?;
    ShortString::try_from(name).ok()
}

/// All exchanges of a vhost but the default one, which is not a thing but a rule: the key names the queue (QUEUE-11).
#[derive(Debug)]
pub struct Exchanges(HashMap<ShortString, Exchange>);

/// The exchanges that are there from the start. EXCH-1
#[rustfmt::skip] // a table
const PREDECLARED: [(ShortString, Kind); 5] = [
    (short!("amq.direct"),  Kind::Direct),
    (short!("amq.fanout"),  Kind::Fanout),
    (short!("amq.topic"),   Kind::Topic),
    (short!("amq.headers"), Kind::Headers),
    (short!("amq.match"),   Kind::Headers),
];

impl Exchanges {
    /// The predeclared exchanges.
    pub fn new() -> Self {
        let durable = |kind| Exchange {
            durable: true,
            ..Exchange::new(kind)
        };
        Self(PREDECLARED.map(|(name, kind)| (name, durable(kind))).into())
    }

    /// The exchange of this name. The default exchange is not among them.
    pub fn get(&self, name: &ShortString) -> Option<&Exchange> {
        self.0.get(name)
    }

    /// Adds a newly declared exchange.
    pub fn insert(&mut self, name: ShortString, exchange: Exchange) {
        self.0.insert(name, exchange);
    }

    /// Deletes an exchange, the bindings from it and the bindings to it.
    pub fn remove(&mut self, name: &ShortString) {
        if self.0.remove(name).is_some() {
            self.unbind_all(Destination::Exchange(name.clone()));
        }
    }

    /// Adds a binding; binding twice is one binding. EXCH-5
    pub fn bind(
        &mut self,
        source: &ShortString,
        destination: Destination,
        key: ShortString,
        arguments: FieldTable,
        share: Share,
    ) {
        if let Some(exchange) = self.0.get_mut(source) {
            let binding = Binding {
                destination,
                arguments,
                _share: share,
            };
            exchange.bind(key, binding);
        }
    }

    /// Removes a binding, and an auto-delete exchange with the last of its bindings. One that is not there is no
    /// error (QUEUE-13).
    pub fn unbind(
        &mut self,
        source: &ShortString,
        destination: &Destination,
        key: &ShortString,
        arguments: &FieldTable,
    ) {
        let exchange = self.0.get_mut(source);
        if exchange.is_some_and(|exchange| exchange.unbind(key, destination, arguments)) {
            self.remove(source);
        }
    }

    /// A queue or exchange is gone: so are the bindings to it, and the auto-delete exchanges that had no others, and
    /// the bindings to those.
    pub fn unbind_all(&mut self, destination: Destination) {
        let mut gone = vec![destination];
        while let Some(destination) = gone.pop() {
            self.0.retain(|name, exchange| {
                let follows = exchange.unbind_all(&destination);
                if follows {
                    gone.push(Destination::Exchange(name.clone()));
                }
                !follows
            });
        }
        shrink(&mut self.0);
    }

    /// The queues that a message for `exchange` reaches, each once (EXCH-4), in the order of their names so that a
    /// run can be repeated. Where the default exchange is on the way, queues that may not exist are among them.
    ///
    /// `keys` are the routing key and what the headers CC and BCC add to it.
    pub fn route<'a>(
        &'a self,
        exchange: &'a ShortString,
        keys: &'a [ShortString],
        headers: Option<&'a FieldTable>,
    ) -> BTreeSet<&'a ShortString> {
        let mut queues = BTreeSet::new();
        let mut entered = BTreeSet::from([exchange]);
        let mut ahead = vec![exchange];
        while let Some(name) = ahead.pop() {
            if name.is_empty() {
                queues.extend(keys);
                continue;
            }
            let Some(exchange) = self.0.get(name) else {
                continue;
            };
            let mut next = Vec::new();
            let mut matched = false;
            for binding in exchange.matching(keys, headers) {
                matched = true;
                match &binding.destination {
                    Destination::Queue(queue) => _ = queues.insert(queue),
                    Destination::Exchange(exchange) => next.push(exchange),
                }
            }
            if !matched {
                next.extend(&exchange.alternate);
            }
            ahead.extend(next.into_iter().filter(|name| entered.insert(name)));
        }
        queues
    }
}

impl Default for Exchanges {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
