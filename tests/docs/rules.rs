//! Rules: every id that is cited is a row of docs/rules.md, and every row is cited by a test or says why not.

use std::collections::BTreeSet;

use crate::pages::{Page, none, pages, read};

/// What looks like the id of a rule and is none.
const NOT_RULES: &[&str] = &["UTF"];

/// Whom a rule may bind, and where it may come from.
const BINDS: &[&str] = &["client", "broker", "both", "codec", "caller", "server"];
const EVIDENCE: &[&str] = &["S", "R", "P", "S R", "S P", "R P", "S R P", "S≠R"];

/// `FRAME-6` as (FRAME, 6), wherever it stands by itself.
fn rule_ids(line: &str) -> Vec<(&str, u32)> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let id = |word: &'_ str| -> Option<(usize, u32)> {
        let (prefix, number) = word.split_once('-')?;
        let upper = prefix.len() >= 2 && prefix.bytes().all(|octet| octet.is_ascii_uppercase());
        upper.then_some((prefix.len(), number.parse().ok()?))
    };
    line.split(word)
        .filter_map(|word| id(word).map(|(end, number)| (&word[..end], number)))
        .collect()
}

/// The rows of docs/rules.md whose first cell is an id, as their cells.
fn rule_rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let inner = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"));
        let cells: Vec<&str> = inner.unwrap_or_default().split(" | ").collect();
        let id = cells[0];
        if rule_ids(id).len() == 1 && !id.contains(' ') {
            rows.push((id, cells));
        }
    }
    rows
}

#[test]
fn every_rule_that_is_cited_is_written_down() {
    let rules = read("docs/rules.md");
    let known: BTreeSet<String> = rule_rows(&rules)
        .iter()
        .map(|(id, _)| (*id).to_owned())
        .collect();
    assert!(known.len() > 300, "the rows of docs/rules.md were found");
    let starts = [
        "README.md",
        "docs",
        "src",
        "tests",
        "fuzz/README.md",
        "fuzz/fuzz_targets",
        "fuzz/src",
    ];
    let mut complaints = Vec::new();
    let mut cited = BTreeSet::new();
    for Page { path, text } in pages(&starts, &["md", "rs"]) {
        for (number, line) in text.lines().enumerate() {
            for (prefix, rule) in rule_ids(line) {
                let id = format!("{prefix}-{rule}");
                if path != "docs/rules.md" {
                    cited.insert(id.clone());
                }
                if !known.contains(&id) && !NOT_RULES.contains(&prefix) {
                    let line = number + 1;
                    complaints.push(format!("{path}:{line}: {id} is not a row of docs/rules.md"));
                }
            }
        }
    }
    none(&complaints);
    assert!(cited.len() > 200, "citations were found");
}

/// The tests of a source file: the modules under `#[cfg(test)]`, or all of it if it is a file of tests.
fn tests_of(Page { path, text }: &Page) -> String {
    if path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") {
        return text.clone();
    }
    let (mut tests, mut lines) = (String::new(), text.lines().peekable());
    while let Some(line) = lines.next() {
        let opens = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(opens) {
            let module = lines.by_ref().take_while(|line| *line != "}");
            tests.extend(module.flat_map(|line| [line, "\n"]));
        }
    }
    tests
}

/// Contradictions are no rules.
const NO_RULES: &[&str] = &["ERRATA"];

/// How a row says that no test cites it, with a colon or a comma and the reason behind it.
const EXCUSES: &[&str] = &["**Not here**", "**No test**"];

#[test]
fn every_rule_is_cited_by_a_test_or_says_why_not() {
    // These tests cite rules as examples of ids.
    let files = pages(&["src", "tests"], &["rs"]);
    let files = files
        .iter()
        .filter(|page| !page.path.starts_with("tests/docs/"));
    let cited: BTreeSet<String> = files
        .map(tests_of)
        .flat_map(|tests| {
            let ids = rule_ids(&tests);
            ids.iter()
                .map(|(prefix, number)| format!("{prefix}-{number}"))
                .collect::<Vec<_>>()
        })
        .collect();
    let rules = read("docs/rules.md");
    let mut complaints = Vec::new();
    let mut must = (0, 0);
    for (id, cells) in rule_rows(&rules) {
        if NO_RULES.contains(&rule_ids(id)[0].0) {
            continue;
        }
        let excuse = EXCUSES
            .iter()
            .find_map(|excuse| cells[1].split_once(excuse));
        let reason = excuse.map(|(_, reason)| reason.trim_matches([':', ',', '.', ' ']));
        match (cited.contains(id), reason) {
            (false, None) => complaints.push(format!("{id}: no test cites it: {}", cells[1])),
            (_, Some("")) => complaints.push(format!("{id}: it does not say why")),
            (true, Some(_)) if cells[1].contains("**No test**") => {
                complaints.push(format!("{id}: a test cites it"));
            }
            _ => {}
        }
        if cells[1].contains("MUST") {
            must.0 += 1;
            must.1 += i32::from(cited.contains(id));
        }
    }
    none(&complaints);
    println!("{} rules say MUST, tests cite {} of them", must.0, must.1);
    assert!(must.0 > 80, "the rules were found: {}", must.0);
}

#[test]
fn every_rule_has_its_cells_and_one_row() {
    let rules = read("docs/rules.md");
    let mut complaints = Vec::new();
    let mut before = ("", 0);
    let mut sections = BTreeSet::new();
    for (id, cells) in rule_rows(&rules) {
        let (prefix, number) = rule_ids(id)[0];
        if prefix == before.0 && number <= before.1 {
            complaints.push(format!("{id} stands after {}-{}", before.0, before.1));
        }
        if prefix != before.0 && !sections.insert(prefix) {
            complaints.push(format!("{id}: {prefix} has two places"));
        }
        before = (prefix, number);
        let whole = match (prefix, &cells[..]) {
            ("ERRATA", [_, _, _, _, here]) => !here.is_empty(),
            (_, [_, rule, binds, evidence]) => {
                rule.ends_with(['.', '!']) && BINDS.contains(binds) && EVIDENCE.contains(evidence)
            }
            _ => false,
        };
        if !whole {
            complaints.push(format!("{id}: {cells:?}"));
        }
    }
    none(&complaints);
}

#[test]
fn ids_are_found_where_they_stand_by_themselves() {
    let found = rule_ids("FRAME-6, (HDR-1) UTF-8; xFRAME-7 FRAME-8x A-1 AMQP 0-9-1 SEC-17.");
    assert_eq!(found, [("FRAME", 6), ("HDR", 1), ("UTF", 8), ("SEC", 17)]);
}

#[test]
fn the_tests_of_a_file_are_told_from_the_rest_of_it() {
    let page = |path: &str| Page {
        path: path.into(),
        text: "#[cfg(test)]\nmod tests;\n// A-1\n#[cfg(test)]\nmod tests {\n// B-2\n}\n// C-3\n"
            .into(),
    };
    assert_eq!(tests_of(&page("src/x.rs")), "mod tests {\n// B-2\n");
    assert!(tests_of(&page("src/x/tests/y.rs")).contains("C-3"));
}
