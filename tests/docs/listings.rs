//! Listings: one that is quoted from a file is in that file, and every other one is compiled and run.

use crate::pages::{Fence, Finding, Page, fences, hold, prose, read, root};

/// A line that stands for any lines.
const GAP: &str = "// …";

/// The file that the comment above a quotation names.
fn quoted_from<'a>(page: &'a Page, fence: &Fence) -> Option<&'a str> {
    let above = page.text.lines().nth(fence.lines.start.checked_sub(2)?)?;
    above.strip_prefix("<!-- from ")?.strip_suffix(" -->")
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether these lines stand somewhere in the file, moved to the left or not, and where they end.
fn find(file: &[&str], wanted: &[&str]) -> Option<usize> {
    let is_here = |window: &[&str]| {
        let mut pairs = window.iter().zip(wanted);
        let (above, below): (Vec<_>, Vec<_>) = pairs
            .clone()
            .filter(|(here, _)| !here.is_empty())
            .map(|(here, line)| {
                (
                    indent(here) + indent(wanted[0]),
                    indent(line) + indent(window[0]),
                )
            })
            .unzip();
        pairs.all(|(here, line)| here.trim() == line.trim()) && above == below
    };
    let at = file.windows(wanted.len()).position(is_here)?;
    Some(at + wanted.len())
}

/// What a quotation has that its file has not.
fn fault(file: &str, quotation: &str) -> Option<String> {
    let lines: Vec<_> = file.lines().collect();
    let quoted: Vec<_> = quotation.lines().collect();
    let mut rest = &lines[..];
    for part in quoted
        .split(|line| line.trim() == GAP)
        .filter(|part| !part.is_empty())
    {
        match find(rest, part) {
            Some(end) => rest = &rest[end..],
            None => {
                return Some(format!(
                    "these lines are not there, or not in this order:\n{}",
                    part.join("\n")
                ));
            }
        }
    }
    None
}

fn findings(page: &Page) -> Vec<Finding> {
    let included = read("src/lib.rs").contains(&format!("include_str!(\"../{}\")", page.path));
    let finding = |fence: Fence| {
        let fault = match (fence.tag.as_str(), quoted_from(page, &fence)) {
            ("rust", None) if included => None,
            ("rust", None) => {
                Some("src/lib.rs does not include this page, so nobody runs its listings".into())
            }
            ("rust,ignore", Some(file)) if !root().join(file).exists() => {
                Some(format!("no such file: {file}"))
            }
            ("rust,ignore", Some(file)) => {
                fault(&read(file), &fence.text).map(|why| format!("{file}: {why}"))
            }
            (other, _) => Some(format!(
                "what is {other:?}? `rust`, which runs, or `rust,ignore` below a line `<!-- from src/lib.rs -->`"
            )),
        };
        fault.map(|why| Finding::wrong(fence.line(), why))
    };
    fences(page, "rust")
        .into_iter()
        .filter_map(finding)
        .collect()
}

#[test]
fn every_listing_is_run_or_is_in_its_file() {
    hold(&prose(), findings);
}

#[test]
fn a_quotation_may_be_moved_and_may_have_gaps() {
    let file = "fn a() {\n    if b {\n        c();\n\n        d();\n    }\n}\n";
    assert_eq!(fault(file, "if b {\n    c();\n"), None);
    assert_eq!(fault(file, "fn a() {\n    // …\n        d();\n"), None);
    assert_eq!(fault(file, "    c();\n\n    d();\n"), None);
    for wrong in [
        "c();\nd();\n",
        "if b {\nc();\n",
        "d();\n// …\nc();\n",
        "e();\n",
    ] {
        assert!(fault(file, wrong).is_some(), "{wrong}");
    }
}
