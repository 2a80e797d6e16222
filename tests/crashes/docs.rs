//! `docs/rpc.md` may say what becomes of a call only where a test shows it.

use crate::CRASHES;

#[test]
fn every_row_of_the_table_names_its_test() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rpc.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, section) = page
        .split_once("\n## If a server dies\n")
        .expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2); // the head of the table
    let named: Vec<_> = rows
        .map(|row| {
            let name = row.split('`').find(|word| word.contains("::"));
            name.unwrap_or_else(|| panic!("no test shows this row: {row}"))
        })
        .collect();
    assert_eq!(named, CRASHES, "a row for each test, in the same order");
}
