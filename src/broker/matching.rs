//! # Matching: topic keys and header tables
//!
//! ```text
//! binding key   routing keys it matches
//! a.*.c         a.b.c                        `*` is one word, which may be empty
//! a.#           a   a.b   a.b.c   a.         `#` is any number of words, also none
//! #             everything, also the empty key, which has no words at all
//! ```
//!
//! Words stand between dots, so `a.` is two words, the second one empty (EXCH-3).
//!
//! Read next: [`stored`](super::stored). Explained in `docs/08-routing.md`.

use crate::codec::{FieldTable, FieldValue, LongString};

use super::{arguments::type_name, fault::Fault};

/// Whether a topic exchange sends `routing_key` over a binding with `binding_key`. EXCH-3
///
/// A `#` first takes no word, and one more each time the rest does not fit. Only the last `#` is ever tried again:
/// what an earlier one could take, the last one can take as well. So the work is at most the product of the two
/// lengths, where the obvious recursion takes exponential time for `#.#.#.#.#.x`.
pub fn topic_matches(binding_key: &[u8], routing_key: &[u8]) -> bool {
    let (mut pattern, mut key) = (words(binding_key), words(routing_key));
    let mut last_hash = None;
    loop {
        let fits = match pattern.next() {
            Some(b"#") => {
                last_hash = Some((pattern.clone(), key.clone()));
                true
            }
            Some(word) => key.next().is_some_and(|got| word == b"*" || word == got),
            None if key.next().is_none() => return true,
            None => false,
        };
        if fits {
            continue;
        }
        let Some((after, from)) = &mut last_hash else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (pattern, key) = (after.clone(), from.clone());
    }
}

/// `split` makes one empty word of an empty key, where a topic exchange sees none.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    key.split(|&octet| octet == b'.')
        .skip(usize::from(key.is_empty()))
}

/// Whether a headers exchange sends a message with `headers` over a binding with these arguments. EXCH-3
///
/// `x-match` says whether all or any of the other arguments must be there; a void argument asks only for the name.
/// Names that begin `x-` do not count unless the rule ends in `-with-x`.
pub fn headers_match(arguments: &FieldTable, headers: Option<&FieldTable>) -> bool {
    let rule = arguments
        .get("x-match")
        .and_then(FieldValue::as_long_string)
        .unwrap_or(b"all");
    let with_x = rule.ends_with(b"-with-x");
    let mut wanted = arguments
        .0
        .iter()
        .filter(|(name, _)| *name != "x-match" && (with_x || !name.as_bytes().starts_with(b"x-")));
    let found = |(name, value): &_| {
        let mut entries = headers.into_iter().flat_map(|headers| &headers.0);
        let entry = entries.find(|(header, _)| header == name);
        entry.is_some_and(|(_, got)| *value == FieldValue::Void || same_value(value, got))
    };
    if rule.starts_with(b"any") {
        wanted.any(found)
    } else {
        wanted.all(found)
    }
}

/// Equal by kind and value: 5 is 5 in any width of integer, but neither "5" nor true. TABLE-15
pub fn same_value(one: &FieldValue, other: &FieldValue) -> bool {
    match (one.as_integer(), other.as_integer()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Looks at the `x-match` of a new binding to a headers exchange.
///
/// # Errors
/// 406 when it is not one of the four rules.
pub fn check_x_match(arguments: &FieldTable) -> Result<(), Fault> {
    match arguments.get("x-match") {
        None => Ok(()),
        Some(FieldValue::LongString(LongString(rule))) => match &rule[..] {
            b"all" | b"any" | b"all-with-x" | b"any-with-x" => Ok(()),
            other => Err(Fault::precondition(format!(
                "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
                other.escape_ascii()
            ))),
        },
        Some(other) => Err(Fault::precondition(format!(
            "Invalid x-match field type {} (value {other}); expected longstr",
            type_name(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::short;

    const BINDING_KEYS: [&str; 14] = [
        "#", "*", "a.*", "a.#", "#.b", "*.*", "a.b", "", "a.*.c", "#.#", "*.#", ".", "a..b",
        "a.#.b",
    ];

    /// Routing key, then the binding keys that match it, as RabbitMQ 3.10.8 was seen to route.
    #[rustfmt::skip]
    const TOPICS: [(&str, &[&str]); 9] = [
        ("",      &["#", "", "#.#"]),
        ("a",     &["#", "*", "a.#", "#.#", "*.#"]),
        ("a.b",   &["#", "a.*", "a.#", "#.b", "*.*", "a.b", "#.#", "*.#", "a.#.b"]),
        ("a.b.c", &["#", "a.#", "a.*.c", "#.#", "*.#"]),
        ("b",     &["#", "*", "#.b", "#.#", "*.#"]),
        ("a.",    &["#", "a.*", "a.#", "*.*", "#.#", "*.#"]),
        (".b",    &["#", "#.b", "*.*", "#.#", "*.#"]),
        (".",     &["#", "*.*", "#.#", "*.#", "."]),
        ("a..b",  &["#", "a.#", "#.b", "#.#", "*.#", "a..b", "a.#.b"]),
    ];

    #[test]
    fn topics_match_as_in_the_table() {
        // EXCH-3
        for (routing_key, expected) in TOPICS {
            let matched: Vec<_> = BINDING_KEYS
                .into_iter()
                .filter(|key| topic_matches(key.as_bytes(), routing_key.as_bytes()))
                .collect();
            assert_eq!(matched, expected, "routing key '{routing_key}'");
        }
    }

    #[test]
    fn a_hostile_topic_takes_no_exponential_time() {
        // SEC-11: 2^60 steps for a matcher that tries every split.
        let pattern = "#.a.".repeat(60) + "b";
        let key = ["a"; 120].join(".");
        assert!(!topic_matches(pattern.as_bytes(), key.as_bytes()));
        assert!(topic_matches(pattern.as_bytes(), (key + ".b").as_bytes()));
    }

    fn table<const N: usize>(entries: [(&'static str, FieldValue); N]) -> FieldTable {
        FieldTable(entries.map(|(k, v)| (k.try_into().unwrap(), v)).into())
    }

    fn text(text: &'static str) -> FieldValue {
        FieldValue::LongString(text.into())
    }

    fn rule(rule: &'static str) -> (&'static str, FieldValue) {
        ("x-match", text(rule))
    }

    #[test]
    fn headers_all_and_any() {
        // EXCH-3
        let (a, b) = (("a", FieldValue::I32(1)), ("b", text("two")));
        let both = table([a.clone(), b.clone()]);
        let one = table([a.clone()]);
        let all = table([rule("all"), a.clone(), b.clone()]);
        let any = table([rule("any"), a.clone(), b.clone()]);

        assert!(headers_match(&all, Some(&both)));
        assert!(!headers_match(&all, Some(&one)));
        assert!(headers_match(&any, Some(&one)));
        assert!(!headers_match(&any, None));
        assert!(
            !headers_match(&table([a, b]), Some(&one)),
            "without x-match: all"
        );
    }

    #[test]
    fn a_binding_without_keys_matches_all_or_nothing() {
        for (name, expected) in [("all", true), ("any", false)] {
            assert_eq!(headers_match(&table([rule(name)]), None), expected);
        }
    }

    #[test]
    fn x_names_count_only_with_x() {
        let x = ("x-part", FieldValue::Bool(true));
        let (with, without) = (table([x.clone()]), FieldTable::EMPTY);
        for (name, matched, unmatched) in [
            ("all", true, true),
            ("all-with-x", true, false),
            ("any", false, false),
            ("any-with-x", true, false),
        ] {
            let binding = table([rule(name), x.clone()]);
            assert_eq!(headers_match(&binding, Some(&with)), matched, "{name}");
            assert_eq!(headers_match(&binding, Some(&without)), unmatched, "{name}");
        }
    }

    #[test]
    fn header_values_are_compared_by_kind_and_value() {
        // TABLE-15; a void asks only whether the header is there.
        let binding = |value| table([("n", value)]);
        let message = table([("n", FieldValue::I64(1))]);
        assert!(headers_match(&binding(FieldValue::I32(1)), Some(&message)));
        assert!(headers_match(&binding(FieldValue::Void), Some(&message)));
        assert!(!headers_match(&binding(text("1")), Some(&message)));
        assert!(!headers_match(
            &binding(FieldValue::Bool(true)),
            Some(&message)
        ));
        assert!(!headers_match(&binding(FieldValue::Void), None));
    }

    #[test]
    fn x_match_is_one_of_four_rules() {
        let check = |value| check_x_match(&FieldTable(vec![(short!("x-match"), value)]));
        assert_eq!(check(text("any-with-x")), Ok(()));
        assert_eq!(
            check(text("foo")).unwrap_err().text,
            "PRECONDITION_FAILED - Invalid x-match field value <<\"foo\">>; \
             expected all, any, all-with-x, or any-with-x"
        );
        assert_eq!(
            check(FieldValue::I32(1)).unwrap_err().text,
            "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr"
        );
    }
}
