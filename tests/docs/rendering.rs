//! What a renderer reads otherwise than a writer meant it: no test of the text would notice.

use crate::pages::{Finding, Page, hold, prose, without_fences};

/// The number of a list item, if the line looks like one.
fn item(line: &str) -> Option<u32> {
    line.split_once(". ")?.0.parse().ok()
}

fn is_bullet(line: &str) -> bool {
    line.starts_with("* ") || line.starts_with("- ")
}

/// Whether a line goes on in the paragraph above it, though it looks like the beginning of something.
fn is_swallowed(paragraph: &str, line: &str) -> bool {
    let begins_a_list = is_bullet(paragraph) || item(paragraph).is_some();
    let is_item = item(line).is_some() && !begins_a_list; // only a 1 interrupts a paragraph, and that is no better
    let is_table = line.starts_with("| ") && !paragraph.starts_with('|');
    is_item || is_table
}

fn findings(page: &Page) -> Vec<Finding> {
    let text = without_fences(&page.text);
    let (mut findings, mut paragraph) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        let line = line.strip_prefix("> ").unwrap_or(line);
        match paragraph {
            _ if line.is_empty() => paragraph = None,
            None => paragraph = Some(line),
            Some(first) if is_swallowed(first, line) => {
                findings.push(Finding::wrong(
                    at + 1,
                    "an empty line is due before it, or it is part of the paragraph",
                ));
            }
            Some(_) => {}
        }
        // What follows the tag of a block is text of that block until an empty line.
        let next = text.lines().nth(at + 1).unwrap_or_default();
        if line.starts_with("<details>") && !next.is_empty() {
            findings.push(Finding::wrong(
                at + 2,
                "an empty line is due before it, or it is not Markdown",
            ));
        }
    }
    findings
}

#[test]
fn lists_and_tables_are_read_as_they_were_meant() {
    hold(&prose(), findings);
}

#[test]
fn what_a_paragraph_swallows_is_noticed() {
    let count = |text: &str| {
        let page = Page {
            path: "docs/x.md".into(),
            text: text.into(),
        };
        findings(&page).len()
    };
    assert_eq!(count("It is 131064 +\n68936. And so on.\n"), 1);
    assert_eq!(count("An answer.\n2. Another.\n"), 1);
    assert_eq!(count("Text.\n| a | b |\n"), 1);
    assert_eq!(count("<details><summary>Answers</summary>\ntext\n"), 1);
    assert_eq!(
        count("1. One\n2. Two\n\n3. Three\n\n| a |\n|---|\n| b |\n\n* a\n* b\n"),
        0
    );
    assert_eq!(count("Text.\n```text\n1. a\n```\n"), 0);
}
