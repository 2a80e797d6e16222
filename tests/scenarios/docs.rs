//! `docs/broker.md` may claim a row to be the same on both brokers only where a scenario shows it.

use crate::SCENARIOS;

/// What is said of this broker alone is shown by these tests.
const BUILTIN_ONLY: &str = include_str!("builtin_only.rs");

#[test]
fn every_row_names_scenarios_that_exist() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/broker.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut shown = Vec::new();
    for row in page.lines().filter(|line| line.starts_with('|')) {
        let named: Vec<_> = row.split('`').filter(|word| word.contains("::")).collect();
        let is_same = row.contains("| same |");
        assert!(
            !is_same || !named.is_empty(),
            "no scenario shows this row: {row}"
        );
        for name in named {
            let exists = match name.strip_prefix("builtin_only::") {
                Some(test) if !is_same => BUILTIN_ONLY.contains(&format!("fn {test}(")),
                _ => SCENARIOS.contains(&name),
            };
            assert!(exists, "there is no {name}: {row}");
            shown.push(name);
        }
    }
    for scenario in SCENARIOS {
        assert!(
            shown.contains(scenario),
            "docs/broker.md has no row for {scenario}"
        );
    }
}
