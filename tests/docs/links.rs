//! Links lead somewhere, files that are named exist, and the README has them all.

use std::{collections::BTreeSet, fs, path::Path};

use crate::pages::{Page, none, pages, prose, read, root, without_fences};

/// The targets of `[text](target)`.
pub(crate) fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| {
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    without_fences(text)
        .lines()
        .filter_map(|line| {
            line.trim_start_matches('#')
                .strip_prefix(' ')
                .filter(|_| line.starts_with('#'))
        })
        .map(slug)
        .collect()
}

/// A line of a source, of which code.rs knows more.
fn is_line(file: &str, anchor: &str) -> bool {
    Path::new(file).extension().is_some_and(|end| end == "rs") && anchor.starts_with('L')
}

/// Whether a quoted word is the name of a file of ours: a path with an extension that we use.
fn names_a_file(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let extension = Path::new(word).extension().and_then(|end| end.to_str());
    word.chars().all(plain)
        && extension.is_some_and(|end| ["rs", "md", "toml", "json", "dict"].contains(&end))
}

#[test]
fn every_link_leads_somewhere() {
    let mut complaints = Vec::new();
    let mut followed = 0;
    for Page { path, text } in prose() {
        let here = root().join(&path);
        let folder = here.parent().unwrap();
        let text = without_fences(&text);
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            followed += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() {
                here.clone()
            } else {
                folder.join(file)
            };
            if !there.exists() {
                complaints.push(format!("{path}: {target}: no such file"));
            } else if !anchor.is_empty()
                && !is_line(file, anchor)
                && !anchors(&fs::read_to_string(&there).unwrap()).contains(anchor)
            {
                complaints.push(format!("{path}: {target}: no such heading"));
            }
        }
        for word in quoted(&text).into_iter().filter(|word| names_a_file(word)) {
            let exists = |start: &Path| start.join(word).exists();
            if !exists(root()) && !exists(folder) && !exists(&root().join("src")) {
                complaints.push(format!("{path}: `{word}`: no such file"));
            }
        }
    }
    none(&complaints);
    assert!(followed > 80, "links were found: {followed}");
}

/// Tests beside the sources are found from the sources; everything else is in the reading order.
#[test]
fn the_readme_names_every_source_file() {
    let readme = read("README.md");
    let linked: BTreeSet<&str> = links(&readme).into_iter().collect();
    let test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let missing = |Page { path, .. }: &Page| !linked.contains(path.as_str()) && !test(path);
    let missing = pages(&["src"], &["rs"]).into_iter().filter(missing);
    none(&missing.map(|page| page.path).collect::<Vec<_>>());
}

#[test]
fn the_readme_draws_the_layers_as_the_library_does() {
    let picture = |text: &str| -> Vec<String> {
        let rows = text
            .lines()
            .map(|line| line.trim_start_matches("//!").trim().to_owned());
        rows.skip_while(|row| !row.starts_with("rpc        call("))
            .take_while(|row| !row.starts_with("```"))
            .collect()
    };
    let drawn = picture(&read("README.md"));
    assert_eq!(drawn.len(), 9);
    assert_eq!(drawn, picture(&read("src/lib.rs")));
}

#[test]
fn quoted_files_are_told_from_other_words() {
    assert!(names_a_file("src/driver.rs") && names_a_file("Cargo.toml"));
    assert!(!names_a_file("cargo run") && !names_a_file("--hex") && !names_a_file("corpus/*.rec"));
    assert_eq!(quoted("a `b.rs` c `d`"), ["b.rs", "d"]);
    assert_eq!(links("[a](b.md#c) [d](e)"), ["b.md#c", "e"]);
    assert!(anchors("# 4. Content header & co\n").contains("4-content-header--co"));
}
