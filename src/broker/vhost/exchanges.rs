//! # Class exchange: make, delete, bind, unbind
//!
//! ```text
//! exchange.declare  "logs" topic      none there: made; one like it: declare-ok; another: 406 (EXCH-2)
//!                   "logs" passive    there: declare-ok, whatever its type; none: 404
//!                   "logs" topik      no such type: 503, and this one costs the connection
//!                   "amq.logs" topic  the broker's own prefix: 403 (QUEUE-3)
//! exchange.delete   "absent"          delete-ok: it is not there, and that was wanted (QUEUE-13)
//! exchange.bind     "" to "logs"      403: the exchange without a name is a rule, and has no bindings (QUEUE-11)
//! ```
//!
//! Whatever fails is said by a close, and a close names one fault only. So the order of the questions can be seen from
//! outside, and it is RabbitMQ's: whether the type is known comes before whether the name may be used.
//!
//! Read next: `queues`. Explained in `docs/08-routing.md`.

use super::{Lane, Vhost};
use crate::{
    broker::{
        arguments,
        exchange::{Destination, Exchange, Kind},
        fault::{Fault, Resource},
        matching::check_x_match,
    },
    codec::{
        ExchangeBind, ExchangeBindOk, ExchangeDeclare, ExchangeDeclareOk, ExchangeDelete,
        ExchangeDeleteOk, ExchangeUnbind, ExchangeUnbindOk, FieldTable, ReplyCode, ShortString,
    },
};

/// The one argument of an exchange that RabbitMQ knows.
const ALTERNATE: &str = "alternate-exchange";

impl Vhost {
    /// EXCH-2
    pub(super) fn exchange_declare(
        &mut self,
        lane: Lane,
        declare: ExchangeDeclare,
    ) -> Result<(), Fault> {
        let name = stripped(&declare.exchange);
        let no_wait = declare.no_wait;
        if declare.passive {
            not_default(&name)?;
            self.existing_exchange(&name)?;
        } else {
            let kind = kind_of(&declare.kind)?;
            not_default(&name)?;
            self.ensure_exchange(name, kind, declare)?;
        }
        self.clients.reply(lane, no_wait, ExchangeDeclareOk {});
        Ok(())
    }

    fn ensure_exchange(
        &mut self,
        name: ShortString,
        kind: Kind,
        declare: ExchangeDeclare,
    ) -> Result<(), Fault> {
        let resource = self.exchange_resource(&name);
        if let Some(existing) = self.exchanges.get(&name) {
            return same_exchange(existing, kind, &declare, &resource);
        }
        resource.refuse_reserved()?;
        arguments::exchange_name(&declare.arguments, ALTERNATE, &resource)?;
        let share = self.entries.take_entry(&[&name], &declare.arguments)?;
        let exchange = Exchange::declared(kind, declare, share);
        self.exchanges.insert(name, exchange);
        Ok(())
    }

    /// Deleting one that is not there is no error. QUEUE-13
    pub(super) fn exchange_delete(
        &mut self,
        lane: Lane,
        delete: &ExchangeDelete,
    ) -> Result<(), Fault> {
        let name = stripped(&delete.exchange);
        let resource = self.exchange_resource(&name);
        not_default(&name)?;
        if name.as_bytes().starts_with(b"amq.") {
            let text = format!("deletion of system {resource} not allowed");
            return Err(Fault::refused(text));
        }
        let used = self.exchanges.get(&name).is_some_and(Exchange::is_used);
        if delete.if_unused && used {
            return Err(Fault::precondition(format!("{resource} in use")));
        }
        self.exchanges.remove(&name);
        self.clients
            .reply(lane, delete.no_wait, ExchangeDeleteOk {});
        Ok(())
    }

    pub(super) fn exchange_bind(&mut self, lane: Lane, bind: ExchangeBind) -> Result<(), Fault> {
        let (source, destination) = (stripped(&bind.source), stripped(&bind.destination));
        not_default(&source)?;
        not_default(&destination)?;
        self.bindable(&source, &bind.arguments)?;
        self.existing_exchange(&destination)?;
        let (key, arguments) = (bind.routing_key, bind.arguments);
        let share = self.entries.take_entry(&[&destination, &key], &arguments)?;
        let destination = Destination::Exchange(destination);
        self.exchanges
            .bind(&source, destination, key, arguments, share);
        self.clients.reply(lane, bind.no_wait, ExchangeBindOk {});
        Ok(())
    }

    /// Undoing a binding that is not there is no error. QUEUE-13
    pub(super) fn exchange_unbind(
        &mut self,
        lane: Lane,
        unbind: &ExchangeUnbind,
    ) -> Result<(), Fault> {
        let (source, destination) = (stripped(&unbind.source), stripped(&unbind.destination));
        not_default(&source)?;
        not_default(&destination)?;
        let destination = Destination::Exchange(destination);
        self.exchanges.unbind(
            &source,
            &destination,
            &unbind.routing_key,
            &unbind.arguments,
        );
        self.clients
            .reply(lane, unbind.no_wait, ExchangeUnbindOk {});
        Ok(())
    }

    /// The exchange, or 404. EXCH-2, PUB-1
    pub(super) fn existing_exchange(&self, name: &ShortString) -> Result<&Exchange, Fault> {
        self.exchanges
            .get(name)
            .ok_or_else(|| Fault::not_found(&self.exchange_resource(name)))
    }

    /// Whether a binding with these arguments can lead from `source`.
    pub(super) fn bindable(
        &self,
        source: &ShortString,
        arguments: &FieldTable,
    ) -> Result<(), Fault> {
        match self.existing_exchange(source)?.kind {
            Kind::Headers => check_x_match(arguments),
            _ => Ok(()),
        }
    }
}

/// RabbitMQ takes carriage returns and line feeds out of the names of queues and exchanges. QUEUE-16
pub(super) fn stripped(name: &ShortString) -> ShortString {
    let is_line_end = |octet: &u8| matches!(octet, b'\r' | b'\n');
    if !name.as_bytes().iter().any(is_line_end) {
        return name.clone();
    }
    let kept = name.as_bytes().iter().copied();
    let kept: Vec<u8> = kept.filter(|octet| !is_line_end(octet)).collect();
    ShortString::try_from(kept.as_slice()).unwrap_or_default()
}

/// 403 for the exchange without a name. QUEUE-11
pub(super) fn not_default(name: &ShortString) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::default_exchange());
    }
    Ok(())
}

/// 503, which costs the connection, for a type that nobody knows. EXCH-2
fn kind_of(name: &ShortString) -> Result<Kind, Fault> {
    Kind::named(name.as_bytes()).ok_or_else(|| {
        let why = if name.is_empty() {
            "invalid"
        } else {
            "unknown"
        };
        Fault::new(
            ReplyCode::COMMAND_INVALID,
            format_args!("{why} exchange type '{name}'"),
        )
    })
}

/// The order is RabbitMQ's: the first difference is the one that is reported.
fn same_exchange(
    existing: &Exchange,
    kind: Kind,
    declare: &ExchangeDeclare,
    exchange: &Resource,
) -> Result<(), Fault> {
    use arguments::{equal, equal_argument};
    let (current, received) = (existing.kind.name(), kind.name());
    equal("type", current, received, exchange)?;
    equal("durable", &existing.durable, &declare.durable, exchange)?;
    let (current, received) = (existing.auto_delete, declare.auto_delete);
    equal("auto_delete", &current, &received, exchange)?;
    equal("internal", &existing.internal, &declare.internal, exchange)?;
    equal_argument(ALTERNATE, &existing.arguments, &declare.arguments, exchange)
}
