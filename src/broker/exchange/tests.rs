use super::*;

fn name(name: &str) -> ShortString {
    name.try_into().unwrap()
}

fn queue(queue: &str) -> Destination {
    Destination::Queue(name(queue))
}

fn exchange(exchange: &str) -> Destination {
    Destination::Exchange(name(exchange))
}

/// Exchanges `a`, `b`, `c` of one type, auto-delete or not.
fn three(kind: Kind, auto_delete: bool) -> Exchanges {
    let mut all = Exchanges::new();
    for letter in ["a", "b", "c"] {
        let exchange = Exchange {
            auto_delete,
            ..Exchange::new(kind)
        };
        all.insert(name(letter), exchange);
    }
    all
}

fn bind(all: &mut Exchanges, source: &str, destination: Destination, key: &str) {
    let (source, key, share) = (name(source), name(key), Share::of_nothing());
    all.bind(&source, destination, key, FieldTable::EMPTY, share);
}

fn routed(all: &Exchanges, exchange: &str, key: &str) -> String {
    let (exchange, keys) = (name(exchange), [name(key)]);
    let queues = all.route(&exchange, &keys, None);
    let queues: Vec<_> = queues.iter().map(ToString::to_string).collect();
    queues.join(" ")
}

#[test]
fn direct_fanout_and_topic() {
    // EXCH-1, EXCH-3
    let mut all = Exchanges::new();
    for exchange in ["amq.direct", "amq.fanout", "amq.topic"] {
        bind(&mut all, exchange, queue("q1"), "disk.full");
        bind(&mut all, exchange, queue("q2"), "disk.*");
    }
    assert_eq!(routed(&all, "amq.direct", "disk.full"), "q1");
    assert_eq!(routed(&all, "amq.direct", "disk.*"), "q2");
    assert_eq!(routed(&all, "amq.fanout", "anything"), "q1 q2");
    assert_eq!(routed(&all, "amq.topic", "disk.full"), "q1 q2");
    assert_eq!(routed(&all, "amq.topic", "disk.ok"), "q2");
}

#[test]
fn headers_look_at_the_table_and_not_at_the_key() {
    // EXCH-3
    let mut all = Exchanges::new();
    let one = FieldTable(vec![(name("n"), FieldValue::I32(1))]);
    let (source, share) = (name("amq.match"), Share::of_nothing());
    all.bind(&source, queue("q"), name("k"), one.clone(), share);
    assert_eq!(routed(&all, "amq.match", "k"), "");
    let (exchange, keys) = (name("amq.match"), [name("other")]);
    let queues = all.route(&exchange, &keys, Some(&one));
    assert_eq!(queues, BTreeSet::from([&name("q")]));
}

#[test]
fn a_queue_gets_one_copy_over_many_ways() {
    // EXCH-4
    let mut all = three(Kind::Topic, false);
    bind(&mut all, "a", queue("q"), "#");
    bind(&mut all, "a", queue("q"), "k");
    bind(&mut all, "a", exchange("b"), "#");
    bind(&mut all, "b", queue("q"), "#");
    assert_eq!(routed(&all, "a", "k"), "q");
}

#[test]
fn a_circle_of_exchanges_ends() {
    let mut all = three(Kind::Fanout, false);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")] {
        bind(&mut all, from, exchange(to), "");
    }
    bind(&mut all, "c", queue("q"), "");
    assert_eq!(routed(&all, "a", "k"), "q");
}

#[test]
fn binding_twice_is_one_binding() {
    // EXCH-5
    let mut all = three(Kind::Direct, false);
    bind(&mut all, "a", queue("q"), "k");
    bind(&mut all, "a", queue("q"), "k");
    all.unbind(&name("a"), &queue("q"), &name("k"), &FieldTable::EMPTY);
    assert_eq!(routed(&all, "a", "k"), "");
}

#[test]
fn unbinding_compares_key_destination_and_arguments() {
    // EXCH-5, QUEUE-13
    let mut all = three(Kind::Direct, false);
    bind(&mut all, "a", queue("q"), "k");
    let other = FieldTable(vec![(name("n"), FieldValue::Void)]);
    all.unbind(&name("a"), &queue("q"), &name("k"), &other);
    all.unbind(&name("a"), &queue("q"), &name("j"), &FieldTable::EMPTY);
    all.unbind(&name("a"), &exchange("q"), &name("k"), &FieldTable::EMPTY);
    assert_eq!(routed(&all, "a", "k"), "q");
}

#[test]
fn the_alternate_exchange_takes_what_matched_nothing() {
    let mut all = three(Kind::Direct, false);
    let with_alternate = Exchange {
        alternate: Some(name("b")),
        ..Exchange::new(Kind::Direct)
    };
    all.insert(name("a"), with_alternate);
    bind(&mut all, "a", queue("known"), "k");
    bind(&mut all, "b", queue("unknown"), "x");
    assert_eq!(routed(&all, "a", "k"), "known");
    assert_eq!(routed(&all, "a", "x"), "unknown");
}

#[test]
fn an_alternate_exchange_may_be_the_default_exchange() {
    let mut all = Exchanges::new();
    let with_alternate = Exchange {
        alternate: Some(ShortString::EMPTY),
        ..Exchange::new(Kind::Fanout)
    };
    all.insert(name("a"), with_alternate);
    assert_eq!(routed(&all, "a", "q"), "q");
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding() {
    let mut all = three(Kind::Fanout, true);
    bind(&mut all, "a", exchange("b"), "");
    bind(&mut all, "b", queue("q1"), "");
    bind(&mut all, "b", queue("q2"), "");
    all.unbind_all(queue("q1"));
    assert!(all.get(&name("b")).is_some(), "q2 is still bound");
    all.unbind_all(queue("q2"));
    assert!(all.get(&name("b")).is_none());
    assert!(all.get(&name("a")).is_none(), "its only binding led to b");
    assert!(all.get(&name("c")).is_some(), "it never had a binding");
}

#[test]
fn a_deleted_exchange_takes_the_bindings_to_it_along() {
    let mut all = three(Kind::Fanout, false);
    bind(&mut all, "a", exchange("b"), "");
    all.remove(&name("b"));
    assert!(!all.get(&name("a")).unwrap().is_used());
}
