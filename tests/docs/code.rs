//! Links into the sources: `` [`Owed::find`](../src/protocol/channel.rs#L67) `` leads to the line that defines it.
//!
//! BLESS writes the number: of the line that defines the last name of the link's text, in the type that stands before it
//! if one does; of the only line that mentions it, if none defines it.

use std::path::Path;

use crate::pages::{Finding, Page, hold, prose, root, without_fences};

/// What stands before a name where it is defined. A number does in the tables of methods and of reply codes.
const DEFINES: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "const",
    "static",
    "mod",
    "trait",
    "type",
    "macro_rules!",
];

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names on a line.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_of_a_name(c))
        .filter(|name| !name.is_empty())
}

fn mentions(line: &str, name: &str) -> bool {
    names(line).any(|other| other == name)
}

fn defines(line: &str, name: &str) -> bool {
    let words: Vec<_> = line
        .split(|c: char| !is_of_a_name(c) && c != '!' && c != '\'')
        .filter(|word| !word.is_empty())
        .collect();
    let is_row = words
        .first()
        .is_some_and(|first| first.parse::<u16>().is_ok())
        && words.get(1) == Some(&name);
    let comment = line.trim_start().starts_with("//");
    !comment
        && (is_row
            || words
                .windows(2)
                .any(|pair| DEFINES.contains(&pair[0]) && pair[1] == name))
}

/// The lines of what is not indented and mentions the type: its definition and its `impl` blocks, from 0.
fn is_inside(lines: &[&str], at: usize, owner: &str) -> bool {
    let opens = |line: &&&str| !line.starts_with([' ', '}', '/', '#']) && !line.is_empty();
    let head = lines[..=at].iter().rev().find(opens);
    head.is_some_and(|head| mentions(head, owner))
}

/// The lines that a link to this path of names may lead to, as editors count, or those between which nobody can choose.
fn places(source: &str, path: &[&str]) -> Vec<usize> {
    let lines: Vec<_> = source
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .collect();
    let Some((name, owners)) = path.split_last() else {
        return Vec::new();
    };
    let all = |is: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..lines.len()).filter(|at| is(*at)).collect()
    };
    let mut found = all(&|at| defines(lines[at], name));
    if let Some(owner) = owners.last() {
        let own: Vec<_> = found
            .iter()
            .copied()
            .filter(|at| is_inside(&lines, *at, owner))
            .collect();
        let first_word = |at: usize| {
            names(lines[at]).next() == Some(name) && !lines[at].trim_start().starts_with("//")
        };
        let variants =
            all(&|at| lines[at].starts_with(' ') && first_word(at) && is_inside(&lines, at, owner));
        found = [own, variants.into_iter().take(1).collect(), found]
            .into_iter()
            .find(|lines| !lines.is_empty())
            .unwrap_or_default();
    }
    // Of several, the one that is inside of nothing else.
    let indent = |at: &usize| lines[*at].len() - lines[*at].trim_start().len();
    if owners.is_empty()
        && let Some(least) = found.iter().map(indent).min()
    {
        found.retain(|at| indent(at) == least);
    }
    if found.is_empty() {
        found = all(&|at| mentions(lines[at], name));
    }
    found.into_iter().map(|at| at + 1).collect()
}

/// A line of a page, with the right number in each link to a line of a source, or what is wrong with it.
fn right(page: &Page, line: &str) -> Result<String, String> {
    let mut parts = line.split("](");
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_once(')').unwrap_or((part, ""));
        let text = done.rsplit_once('[').map_or("", |(_, text)| text);
        let target = match target.split_once("#L") {
            Some((file, number)) if !file.contains("://") => {
                let place = place(page, file, text, number);
                let place = place.map_err(|why| format!("[{text}]({target}): {why}"))?;
                format!("{file}#L{place}")
            }
            _ => target.to_owned(),
        };
        let end = if part.contains(')') { ")" } else { "" };
        done = [&done, "](", &target, end, rest].concat();
    }
    Ok(done)
}

fn place(page: &Page, file: &str, text: &str, number: &str) -> Result<usize, String> {
    let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
    let source =
        std::fs::read_to_string(root().join(folder).join(file)).map_err(|_| "no such file")?;
    let path: Vec<_> = text
        .trim_matches('`')
        .split("::")
        .map(|name| name.trim_end_matches('!'))
        .collect();
    if !path
        .iter()
        .all(|name| !name.is_empty() && name.chars().all(is_of_a_name))
    {
        return Err("the text of a link to a line is the name of what is there".into());
    }
    match places(&source, &path)[..] {
        [] => Err("no line there mentions it".into()),
        [only] => Ok(only),
        ref several => {
            let chosen = number
                .parse()
                .ok()
                .filter(|number| several.contains(number));
            chosen.ok_or_else(|| format!("which of the lines {several:?}?"))
        }
    }
}

fn findings(page: &Page) -> Vec<Finding> {
    let prose = without_fences(&page.text);
    let finding = |(at, line): (usize, &str)| match right(page, line) {
        Ok(right) if right == line => None,
        Ok(right) => {
            let why = format!("a link to a line leads to another\n  {}", right.trim());
            Some(Finding::stale(at + 1, why, at..at + 1, right))
        }
        Err(why) => Some(Finding::wrong(at + 1, why)),
    };
    prose.lines().enumerate().filter_map(finding).collect()
}

#[test]
fn every_link_to_a_line_leads_to_what_it_names() {
    hold(&prose(), findings);
}

#[cfg(test)]
const SOURCE: &str = "\
/// Not this: fn one
pub struct One {
    pub field: u8,
}
impl One {
    pub const fn new() -> Self {}
}
enum Two {
    Half,
}
impl Trait for Two {
    fn new() {} // Self::Half
}
macro_rules! three { () => {} }
    404 NOT_FOUND
    51 UnbindOk \"unbind-ok\" from Broker {}
fn one() { Half; twice(); }
fn two() { twice(); other(); }

#[cfg(test)]
mod tests {
    fn one() {}
}
";

#[test]
fn names_are_found_where_they_are_defined() {
    let places = |path: &str| places(SOURCE, &path.split("::").collect::<Vec<_>>());
    assert_eq!(places("One"), [2]);
    assert_eq!(places("one"), [17]);
    assert_eq!(places("One::new"), [6]);
    assert_eq!(places("Two::new"), [12]);
    assert_eq!(places("new"), [6, 12]);
    assert_eq!(places("Two::Half"), [9]);
    assert_eq!(places("One::field"), [3]);
    assert_eq!(places("module::one"), [17]);
    assert_eq!(places("three"), [14]);
    assert_eq!(places("NOT_FOUND"), [15]);
    assert_eq!(places("UnbindOk"), [16]);
    assert_eq!(places("other"), [18]);
    assert_eq!(places("twice"), [17, 18]);
    assert!(places("nothing").is_empty());
}

#[test]
fn the_number_of_a_link_is_written() {
    let page = Page {
        path: "docs/x.md".into(),
        text: String::new(),
    };
    let line = "see [`FrameDecoder::decode`](../src/codec/frame.rs#L1), [a](b.md#c) and [`methods!`](../src/codec/method.rs#L1).";
    let written = right(&page, line).unwrap();
    assert_eq!(right(&page, &written).as_ref(), Ok(&written));
    assert!(
        !written.contains("#L1)") && written.contains("[a](b.md#c)"),
        "{written}"
    );
    for wrong in [
        "[the frame](../src/lib.rs#L1)",
        "[`nothing_there`](../src/lib.rs#L1)",
        "[`x`](../src/no.rs#L1)",
    ] {
        assert!(right(&page, wrong).is_err(), "{wrong}");
    }
}
