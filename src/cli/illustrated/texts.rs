//! # Texts: what is said about frames and fields, from the tables beside this file
//!
//! ```text
//! queue.declare by client with passive        the first key that fits decides: what, by whom, to whom, a word in it
//! ```
//!
//! Rules are not written twice: a text names them by id, and their sentences come from `docs/rules.md`.
//!
//! Read next: [`sentence`](crate::cli::sentence).

use maud::{Markup, html};

use crate::cli::conversation::Direction;

const FRAMES: &str = include_str!("frames.txt");
const FIELDS: &str = include_str!("fields.txt");
const RULES: &str = include_str!("../../../docs/rules.md");

/// Who is meant by a text: everyone who is not told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Key<'t> {
    name: &'t str,
    by: Option<&'t str>,
    to: Option<&'t str>,
    of: Option<&'t str>,
    with: Option<&'t str>,
}

impl<'t> Key<'t> {
    /// `queue.declare by client with passive`: behind `with` stands the rest, quotes or not.
    fn read(text: &'t str) -> Self {
        let (text, with) = match text.split_once(" with ") {
            Some((text, with)) => (text, Some(with)),
            None => (text, None),
        };
        let mut key = Self {
            name: text,
            with,
            ..Self::default()
        };
        for (word, place) in [
            (" of ", &mut key.of),
            (" to ", &mut key.to),
            (" by ", &mut key.by),
        ] {
            if let Some((name, who)) = key.name.split_once(word) {
                (key.name, *place) = (name, Some(who));
            }
        }
        key
    }
}

/// What there is to say about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// What it says, in the words of its sender.
    pub means: &'static str,
    /// Why it is sent.
    pub why: &'static str,
    /// What may come after it.
    pub next: &'static str,
    /// Each rule with its id.
    pub rules: Vec<(&'static str, &'static str)>,
}

/// A unit of the conversation, as its texts are found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'u> {
    /// Whose connection it is.
    pub who: &'u str,
    /// Who sends it.
    pub direction: Direction,
    /// `queue.declare`, `header`, `protocol header`.
    pub name: &'u str,
    /// Its lane and its fields.
    pub says: &'u str,
}

impl Subject<'_> {
    /// Who sends it, and who receives it.
    pub(super) fn ends(&self) -> [&str; 2] {
        match self.direction {
            Direction::ToBroker => [self.who, "broker"],
            Direction::FromBroker => ["broker", self.who],
        }
    }

    /// What there is to say about it.
    pub(super) fn text(&self) -> Option<Text> {
        let [by, to] = self.ends();
        let fits = |key: &Key| {
            key.name == self.name
                && key.by.is_none_or(|who| who == by)
                && key.to.is_none_or(|who| who == to)
                && key.with.is_none_or(|word| self.says.contains(word))
        };
        let (_, text) = frames().find(|(key, _)| fits(key))?;
        Some(text)
    }

    /// What one of its fields is.
    pub(super) fn field(&self, label: &str, value: &str) -> Option<&'static str> {
        let fits = |key: &Key| {
            key.name == label
                && key.of.is_none_or(|name| name == self.name)
                && key.with.is_none_or(|word| value.contains(word))
        };
        let (_, text) = fields().find(|(key, _)| fits(key))?;
        Some(text)
    }
}

fn frames() -> impl Iterator<Item = (Key<'static>, Text)> {
    let blocks = FRAMES.split("\n\n").filter(|block| !block.starts_with('#'));
    blocks.map(|block| {
        let mut lines = block.lines();
        let key = Key::read(lines.next().unwrap_or_default());
        let mut said = |label| {
            let line = lines.next().and_then(|line| line.strip_prefix(label));
            line.unwrap_or_default()
        };
        let [means, why, next, rules] = ["means: ", "why: ", "next: ", "rules: "].map(&mut said);
        let rules = rules.split_whitespace();
        let rules = rules.map(|id| (id, rule(id).unwrap_or_default())).collect();
        let text = Text {
            means,
            why,
            next,
            rules,
        };
        (key, text)
    })
}

fn fields() -> impl Iterator<Item = (Key<'static>, &'static str)> {
    let lines = FIELDS.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| line.split_once(": "));
    lines.map(|(key, text)| (Key::read(key), text))
}

/// The sentence of a rule, without the reason why it has no test.
fn rule(id: &str) -> Option<&'static str> {
    let mut rows = RULES.lines().filter_map(|line| line.strip_prefix("| "));
    let row = rows.find_map(|row| row.strip_prefix(id)?.strip_prefix(" | "))?;
    let (sentence, _) = row.split_once(" | ")?;
    Some(sentence.split(" **No test**").next().unwrap_or(sentence))
}

/// The little of Markdown that these texts have: `code`, **bold**, and links, of which the text is kept.
pub(super) fn inline(text: &str) -> Markup {
    let pieces = text.split('`').enumerate();
    html! {
        @for (number, piece) in pieces {
            @if number % 2 == 1 { code { (piece) } } @else { (bold(piece)) }
        }
    }
}

fn bold(text: &str) -> Markup {
    html! {
        @for (number, piece) in text.split("**").enumerate() {
            @if number % 2 == 1 { strong { (without_links(piece)) } } @else { (without_links(piece)) }
        }
    }
}

fn without_links(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let parts = link.split_once("](").and_then(|(text, after)| {
            let (_, after) = after.split_once(')')?;
            Some((text, after))
        });
        let Some((text, after)) = parts else { break };
        kept.extend([before, text]);
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_whole() {
        let mut count = 0;
        for (key, text) in frames() {
            let Text {
                means,
                why,
                next,
                rules,
            } = text;
            for part in [key.name, means, why, next] {
                assert!(!part.is_empty(), "{key:?}");
            }
            assert!(!rules.is_empty(), "{key:?}");
            for (id, rule) in rules {
                assert!(rule.ends_with('.'), "{key:?}: {id}: {rule:?}");
            }
            count += 1;
        }
        assert!(count > 40, "{count}");
        assert!(fields().all(|(key, text)| !key.name.is_empty() && !text.is_empty()));
    }

    #[test]
    fn a_key_says_who_is_meant() {
        let key = Key::read("channel.open by server to broker with channel 2");
        let expected = Key {
            name: "channel.open",
            by: Some("server"),
            to: Some("broker"),
            of: None,
            with: Some("channel 2"),
        };
        assert_eq!(key, expected);
        assert_eq!(
            Key::read("reserved-1 of basic.publish").of,
            Some("basic.publish")
        );
    }

    #[test]
    fn text_is_escaped_and_links_are_words() {
        let shown = inline("a < b, `c & d` and [e](f.md#g), [h").into_string();
        assert_eq!(shown, "a &lt; b, <code>c &amp; d</code> and e, [h");
        assert_eq!(
            inline("**k [l](m)** n").into_string(),
            "<strong>k l</strong> n"
        );
        assert_eq!(
            inline("\"<script>\"").into_string(),
            "&quot;&lt;script&gt;&quot;"
        );
    }
}
