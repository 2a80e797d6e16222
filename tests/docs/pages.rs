//! Pages, the fences on them, and how a page is held to what it should say.

use std::{
    env, fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A file of the project: its path from the root, and its text.
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        Self {
            path: path.into(),
            text: read(path),
        }
    }

    /// Whether it is a source, whose comments are looked at and never rewritten.
    pub(crate) fn is_source(&self) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|end| end == "rs")
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file under these paths with one of these extensions, in order.
pub(crate) fn pages(starts: &[&str], extensions: &[&str]) -> Vec<Page> {
    let mut files = Vec::new();
    for start in starts {
        collect(&root().join(start), &mut files);
    }
    files.sort();
    let wanted = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    };
    let page =
        |path: PathBuf| Page::read(&path.strip_prefix(root()).unwrap().display().to_string());
    files.into_iter().filter(wanted).map(page).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.exists() {
        files.push(path.to_owned());
    }
}

/// What is read as prose.
pub(crate) fn prose() -> Vec<Page> {
    pages(&["README.md", "docs"], &["md"])
}

/// Fails with all complaints at once.
pub(crate) fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Something on a page that should be otherwise.
pub(crate) struct Finding {
    /// Its line, from 1.
    line: usize,
    why: String,
    /// The lines that BLESS replaces, from 0, and what with.
    mend: Option<(Range<usize>, String)>,
}

impl Finding {
    /// What only a person can mend.
    pub(crate) fn wrong(line: usize, why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            line,
            why,
            mend: None,
        }
    }

    /// What the code knows better than the page.
    pub(crate) fn stale(line: usize, why: String, lines: Range<usize>, with: String) -> Self {
        let mend = Some((lines, with));
        Self { line, why, mend }
    }

    fn complaint(&self, page: &Page) -> String {
        format!("{}:{}: {}", page.path, self.line, self.why)
    }
}

/// Fails where the pages are not as `look` wants them; with BLESS, writes what can be written.
pub(crate) fn hold(pages: &[Page], look: impl Fn(&Page) -> Vec<Finding>) {
    /// Tests run side by side, and two of them may mend the same page.
    static WRITING: Mutex<()> = Mutex::new(());
    let mut complaints = Vec::new();
    for page in pages {
        let mut findings = look(page);
        if is_blessed(page) && findings.iter().any(|finding| finding.mend.is_some()) {
            let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = Page::read(&page.path);
            findings = look(&fresh);
            fs::write(root().join(&page.path), mended(&fresh.text, &findings)).unwrap();
            findings.retain(|finding| finding.mend.is_none());
        }
        complaints.extend(findings.iter().map(|finding| finding.complaint(page)));
    }
    none(&complaints);
}

fn is_blessed(page: &Page) -> bool {
    let Some(which) = env::var_os("BLESS") else {
        return false;
    };
    let which = which.to_string_lossy();
    !page.is_source() && (which == "1" || page.path.contains(which.as_ref()))
}

/// The text with every finding mended that can be. From the last to the first, so that line numbers hold.
fn mended(text: &str, findings: &[Finding]) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut mends: Vec<_> = findings
        .iter()
        .filter_map(|finding| finding.mend.as_ref())
        .collect();
    mends.sort_by_key(|(range, _)| range.start);
    for (range, with) in mends.into_iter().rev() {
        lines.splice(range.clone(), with.lines());
    }
    lines.join("\n") + "\n"
}

/// A fence with a tag: in a page, or in the comments of a source.
pub(crate) struct Fence {
    pub(crate) tag: String,
    /// Its lines without the two that fence it, from 0.
    pub(crate) lines: Range<usize>,
    /// Without the marks of a comment.
    pub(crate) text: String,
}

impl Fence {
    /// Its first line as an editor counts.
    pub(crate) fn line(&self) -> usize {
        self.lines.start + 1
    }
}

/// The fences of a page whose tag begins with this word.
pub(crate) fn fences(page: &Page, word: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<Fence> = None;
    for (number, line) in page.text.lines().enumerate() {
        let line = if page.is_source() {
            let comment = line.trim_start();
            let inside = comment.strip_prefix("//!").or(comment.strip_prefix("///"));
            let Some(inside) = inside else {
                open = None; // a fence that does not end is rustdoc's to notice
                continue;
            };
            inside.strip_prefix(' ').unwrap_or(inside)
        } else {
            line
        };
        match (open.as_mut(), line.strip_prefix("```")) {
            (None, Some(tag)) => {
                open = Some(Fence {
                    tag: tag.trim().into(),
                    lines: number + 1..number + 1,
                    text: String::new(),
                });
            }
            (Some(fence), None) => {
                fence.lines.end = number + 1;
                fence.text += line;
                fence.text += "\n";
            }
            (Some(_), Some(_)) => fences.extend(open.take()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a fence that does not end", page.path);
    let is_wanted = |fence: &Fence| fence.tag.split([' ', ',']).next() == Some(word);
    fences.into_iter().filter(is_wanted).collect()
}

/// The text without its fences, which quote programs and dumps, line by line: a line of a fence is empty.
pub(crate) fn without_fences(text: &str) -> String {
    let mut inside = false;
    let outside = |line| -> &str {
        let fence = str::trim_start(line).starts_with("```");
        inside ^= fence;
        if inside || fence { "" } else { line }
    };
    text.lines().map(outside).collect::<Vec<_>>().join("\n")
}

#[test]
fn fences_are_found_by_their_tag() {
    let page = |path: &str, text: &str| Page {
        path: path.into(),
        text: text.into(),
    };
    let markdown = page(
        "a.md",
        "x\n```wire\n01\n02\n```\n```wire error=501\n```\n```text\n```\n",
    );
    let found = fences(&markdown, "wire");
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].lines.clone(), &*found[0].text),
        (2..4, "01\n02\n")
    );
    assert_eq!(
        (found[1].lines.clone(), &*found[1].tag),
        (6..6, "wire error=501")
    );
    let source = page(
        "a.rs",
        "//! ```wire\n//! 01\n//! ```\nuse x;\n    /// ```wire\n    /// 02\n    /// ```\n",
    );
    let texts: Vec<_> = fences(&source, "wire")
        .into_iter()
        .map(|fence| fence.text)
        .collect();
    assert_eq!(texts, ["01\n", "02\n"]);
}

#[test]
fn lines_are_mended_from_the_last_to_the_first() {
    let findings = [
        Finding::stale(1, String::new(), 0..1, "a\nb".into()),
        Finding::wrong(2, "no"),
        Finding::stale(3, String::new(), 2..2, "new".into()),
    ];
    assert_eq!(mended("1\n2\n3\n", &findings), "a\nb\n2\nnew\n3\n");
}
