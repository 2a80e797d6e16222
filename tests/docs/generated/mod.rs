//! What is printed from the code between `<!-- generated: NAME -->` and `<!-- end -->`.

mod machines;
mod tables;

use std::ops::Range;

use crate::pages::{Finding, Page, hold, prose};

const END: &str = "<!-- end -->";

/// What a name stands for, with an empty line before and after it, which a table needs.
fn printed(name: &str) -> Option<String> {
    let printed = match name {
        "handshake-client" => machines::handshake_client(),
        "handshake-broker" => machines::handshake_broker(),
        "channel-states" => machines::channel(),
        "connection-closing" => machines::closing(),
        "method-table" => tables::methods(),
        "property-flags" => tables::properties(),
        "table-tags" => tables::tags(),
        "class-ids" => tables::classes(),
        "reply-codes" => tables::reply_codes(),
        _ => return None,
    };
    Some(format!("\n{printed}\n"))
}

/// The name that a line begins a generated part with.
fn begins(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- generated: ")?.strip_suffix(" -->")
}

/// The generated parts of a page: their names, and their lines, from 0.
fn parts(text: &str) -> Vec<(&str, Option<Range<usize>>)> {
    let part = |(at, line)| {
        let name = begins(line)?;
        let end = text.lines().skip(at).position(|line| line == END);
        Some((name, end.map(|end| at + 1..at + end)))
    };
    text.lines().enumerate().filter_map(part).collect()
}

fn finding(page: &Page, name: &str, lines: Range<usize>) -> Option<Finding> {
    let Some(printed) = printed(name) else {
        let why = format!("nothing is generated under the name {name}");
        return Some(Finding::wrong(lines.start, why));
    };
    let found: Vec<_> = page
        .text
        .lines()
        .skip(lines.start)
        .take(lines.len())
        .collect();
    let due: Vec<_> = printed.lines().collect();
    if found == due {
        return None;
    }
    let differs = found.iter().zip(&due).position(|(found, due)| found != due);
    let line = lines.start + 1 + differs.unwrap_or(found.len().min(due.len()));
    let why = format!("{name} is printed otherwise; BLESS=1 cargo test --test docs writes it anew");
    Some(Finding::stale(line, why, lines, printed))
}

#[test]
fn every_generated_part_is_what_the_code_prints() {
    hold(&prose(), |page| {
        let look = |(name, lines): (&str, Option<Range<usize>>)| match lines {
            Some(lines) => finding(page, name, lines),
            None => Some(Finding::wrong(1, format!("{name} has no {END}"))),
        };
        parts(&page.text).into_iter().filter_map(look).collect()
    });
}

#[test]
fn parts_are_found_between_their_markers() {
    let text = "a\n<!-- generated: x -->\nb\nc\n<!-- end -->\n<!-- generated: y -->\n<!-- end -->\n<!-- generated: z -->\n";
    assert_eq!(
        parts(text),
        [("x", Some(2..4)), ("y", Some(6..6)), ("z", None)]
    );
}
