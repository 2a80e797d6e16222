//! Chapters: all have the same form, so that a reader finds the way in each, and every page has its place in the book.

use std::collections::BTreeSet;

use crate::{
    links::links,
    pages::{Page, none, pages, read, without_fences},
};

const SUMMARY: &str = "docs/SUMMARY.md";

/// What ends every chapter, in this order.
const SECTIONS: [&str; 3] = [
    "## The lines of ours that do it",
    "## Where people trip",
    "## Exercises",
];

/// The exercises, which rise.
const EXERCISES: [&str; 3] = ["Predict", "Break", "Extend"];

/// Names and files, in the order of the book.
fn summary() -> Vec<(String, String)> {
    let text = read(SUMMARY);
    let entry = |line: &str| {
        let line = line.trim_start_matches("- ").strip_prefix('[')?;
        let (name, file) = line.strip_suffix(')')?.split_once("](")?;
        Some((name.to_owned(), file.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

fn is_chapter(page: &Page) -> bool {
    let file = page.path.strip_prefix("docs/").unwrap_or_default();
    file.starts_with(|c: char| c.is_ascii_digit())
}

#[test]
fn every_page_has_its_place_in_the_book() {
    let listed: BTreeSet<String> = summary()
        .into_iter()
        .map(|(_, file)| format!("docs/{file}"))
        .collect();
    let all: BTreeSet<String> = pages(&["docs"], &["md"])
        .into_iter()
        .map(|page| page.path)
        .collect();
    let missing = all
        .iter()
        .filter(|path| *path != SUMMARY && !listed.contains(*path));
    none(
        &missing
            .map(|path| format!("{path}: not in {SUMMARY}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_book_calls_chapters_by_their_titles() {
    let mut complaints = Vec::new();
    for (name, file) in summary() {
        let page = Page::read(&format!("docs/{file}"));
        let title = page.text.lines().next().unwrap_or_default();
        if is_chapter(&page) && title != format!("# {name}") {
            complaints.push(format!(
                "{}:1: {title:?}, and in the book {name:?}",
                page.path
            ));
        }
    }
    none(&complaints);
}

/// What is wrong with the form of a chapter, and in which line.
fn faults(page: &Page, next: Option<&str>) -> Vec<(usize, String)> {
    let prose = without_fences(&page.text);
    let lines: Vec<_> = prose.lines().collect();
    let mut faults = Vec::new();
    let line = |at: usize| lines.get(at).copied().unwrap_or_default();

    let number = page.path.strip_prefix("docs/").unwrap_or_default()[..2].trim_start_matches('0');
    if !line(0).starts_with(&format!("# {number}. ")) {
        faults.push((1, format!("`# {number}. ` and a title were due")));
    }
    let question = lines
        .iter()
        .skip(2)
        .take(3)
        .take_while(|line| !line.is_empty());
    let question = question.copied().collect::<Vec<_>>().join(" ");
    if !(question.starts_with('*') && question.ends_with("?*")) {
        faults.push((3, "its question was due, `*in italics?*`".into()));
    }
    let headings: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("## "))
        .copied()
        .collect();
    if !headings.ends_with(&SECTIONS) {
        faults.push((lines.len(), format!("it does not end with {SECTIONS:?}")));
    }
    let exercises = lines
        .iter()
        .position(|line| *line == SECTIONS[2])
        .unwrap_or(0);
    let answers = lines
        .iter()
        .position(|line| line.starts_with("<details>"))
        .unwrap_or(lines.len());
    let asked: Vec<_> = (exercises..answers)
        .filter_map(|at| {
            line(at)
                .split_once(". *")
                .filter(|(number, _)| number.parse::<u8>().is_ok())
        })
        .map(|(_, rest)| rest.split(['*', '.', ' ']).next().unwrap_or_default())
        .collect();
    if asked != EXERCISES {
        faults.push((
            exercises + 1,
            format!("the exercises are {asked:?}, and {EXERCISES:?} were due"),
        ));
    }
    if line(answers) != "<details><summary>Answers</summary>" || !line(answers + 1).is_empty() {
        faults.push((
            answers + 1,
            "`<details><summary>Answers</summary>` and an empty line were due".into(),
        ));
    }
    let last = lines.last().copied().unwrap_or_default();
    if !last.starts_with("Next: [") || links(last).first().copied() != next {
        faults.push((
            lines.len(),
            format!("`Next: [..]({})` was due", next.unwrap_or_default()),
        ));
    }
    faults
}

#[test]
fn every_chapter_has_the_form_of_a_chapter() {
    let files: Vec<_> = summary().into_iter().map(|(_, file)| file).collect();
    let mut complaints = Vec::new();
    for page in pages(&["docs"], &["md"])
        .iter()
        .filter(|page| is_chapter(page))
    {
        let at = files
            .iter()
            .position(|file| page.path == format!("docs/{file}"));
        let next = at.and_then(|at| files.get(at + 1)).map(String::as_str);
        let faults = faults(page, next);
        complaints.extend(
            faults
                .into_iter()
                .map(|(line, why)| format!("{}:{line}: {why}", page.path)),
        );
    }
    none(&complaints);
}

#[test]
fn a_chapter_without_its_form_is_noticed() {
    let text = "# 7. Consuming\n\n*Who gets\nwhat?*\n\n## A\n```text\n## not a heading\n```\n## The lines of ours that do it\n\
                ## Where people trip\n## Exercises\n1. *Predict.* x\n2. *Break.* y\n3. *Extend* z\n\n\
                <details><summary>Answers</summary>\n\nx\n</details>\n\nNext: [8. Routing](08-routing.md)\n";
    let faults = |text: &str| {
        let page = Page {
            path: "docs/07-consuming.md".into(),
            text: text.into(),
        };
        faults(&page, Some("08-routing.md"))
    };
    assert_eq!(faults(text), []);
    for (right, wrong) in [
        ("# 7.", "# 8."),
        ("what?*", "what.*"),
        ("## Where people trip\n", ""),
        ("2. *Break", "2. *Brake"),
        ("Answers</summary>\n", "Answers</summary>"),
        ("08-routing.md", "09-errors-and-closing.md"),
    ] {
        assert_eq!(faults(&text.replace(right, wrong)).len(), 1, "{wrong}");
    }
}
