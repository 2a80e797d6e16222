//! The pages, held to the code: rules, links, the conversation, and every dump.
//!
//! `BLESS=1 cargo test --test docs` writes the generated part of `docs/conversation.md` anew, and `docs/conversation.html`;
//! nothing else is written.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use amqp_rpc::codec::{FrameDecoder, PROTOCOL_HEADER, Redact, annotate};
use bytes::{Bytes, BytesMut};

/// A file of the project: its path from the root, and its text.
struct Page {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under these paths with one of these extensions, in order.
fn pages(starts: &[&str], extensions: &[&str]) -> Vec<Page> {
    let mut files = Vec::new();
    for start in starts {
        collect(&root().join(start), &mut files);
    }
    files.sort();
    let wanted = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    };
    let page = |path: PathBuf| Page {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().display().to_string(),
    };
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

fn prose() -> Vec<Page> {
    pages(&["README.md", "docs"], &["md"])
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Fails with all complaints at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---- rules -------------------------------------------------------------------------------------------------------

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
    // This file cites rules as examples of ids.
    let files = pages(&["src", "tests"], &["rs"]);
    let files = files.iter().filter(|page| page.path != "tests/docs.rs");
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

// ---- links -------------------------------------------------------------------------------------------------------

/// The text without its fences, which quote programs and dumps.
fn without_fences(text: &str) -> String {
    let mut inside = false;
    let outside = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    text.lines().filter(outside).collect::<Vec<_>>().join("\n")
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
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

// ---- the conversation --------------------------------------------------------------------------------------------

const CONVERSATION: &str = "docs/conversation.md";

/// What the demo prints.
fn demo(arguments: &[&str]) -> String {
    let demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap();
    assert!(demo.status.success(), "{demo:?}");
    String::from_utf8(demo.stdout).unwrap()
}

#[test]
fn the_conversation_is_what_the_demo_prints() {
    let printed = demo(&["--hex"]);
    let fence = format!("```text\n{}\n```\n", printed.trim_matches('\n'));

    let page = read(CONVERSATION);
    let (before, rest) = page
        .split_once("-->\n")
        .expect("the marker of the beginning");
    let (found, after) = rest.split_once("<!--").expect("the marker of the end");
    if env::var_os("BLESS").is_some() {
        return fs::write(
            root().join(CONVERSATION),
            format!("{before}-->\n{fence}<!--{after}"),
        )
        .unwrap();
    }
    let differs = found
        .lines()
        .zip(fence.lines())
        .find(|(page, demo)| page != demo);
    assert!(
        found == fence,
        "{CONVERSATION} is not what the demo prints (page, demo): {differs:?}\nBLESS=1 cargo test --test docs writes it anew"
    );
}

const PAGE: &str = "docs/conversation.html";

#[test]
fn the_page_of_the_conversation_is_what_the_demo_writes() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conversation.html");
    let printed = demo(&["--html", file.to_str().unwrap()]);
    assert!(printed.ends_with("conversation.html.\n"), "{printed}");
    let page = fs::read_to_string(file).unwrap();
    for fetched in ["://", "src=", "url(", "@import"] {
        assert!(
            !page.contains(fetched),
            "{fetched} in a page that is complete in itself"
        );
    }
    if env::var_os("BLESS").is_some() {
        return fs::write(root().join(PAGE), page).unwrap();
    }
    let found = read(PAGE);
    let differs = found
        .lines()
        .zip(page.lines())
        .find(|(one, other)| one != other);
    assert!(
        found == page,
        "{PAGE} is not what the demo writes (page, demo): {differs:?}\nBLESS=1 cargo test --test docs writes it anew"
    );
}

/// Also where there is no reply queue and another number.
#[test]
fn every_frame_and_every_field_is_explained() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("direct.html");
    demo(&[
        "20",
        "--reply-mode",
        "direct",
        "--html",
        file.to_str().unwrap(),
    ]);
    for page in [fs::read_to_string(file).unwrap(), read(PAGE)] {
        let count = |text| page.matches(text).count();
        let frames = count("<li class=\"unit\"");
        assert!(frames > 50, "{frames} frames");
        assert_eq!(count("<p class=\"means\">"), frames);
        assert_eq!(count("<span class=\"note\">"), count("<tr data-f="));
    }
}

/// Those who know the octets from `--hex` find the same ones in the page, in the same order.
#[test]
fn the_page_has_every_octet_of_the_conversation() {
    let printed = demo(&["--hex"]);
    let dumped = printed
        .lines()
        .filter_map(|line| line.strip_prefix("           "));
    let dumped = dumped
        .map(|line| octets(line).unwrap())
        .collect::<Vec<_>>()
        .concat();
    let page = read(PAGE);
    let (page, _) = page.split_once("What was not heard</h2>").unwrap();
    let shown = page.split("class=\"octets\"").skip(1).flat_map(|group| {
        let (group, _) = group.split_once("</div>").unwrap();
        let texts = group
            .split("\">")
            .skip(2)
            .map(|text| text.split_once("</a>").unwrap().0);
        texts.flat_map(|text| {
            text.split(' ')
                .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        })
    });
    assert_eq!(shown.collect::<Vec<_>>(), dumped);
}

// ---- dumps -------------------------------------------------------------------------------------------------------

/// A fence tagged `wire`: where it is, the reply code its mistake earns if it has one, and its lines.
struct Dump {
    place: String,
    error: Option<u16>,
    text: String,
}

/// The dumps of a page, or of the doc comments of a source file.
fn dumps(Page { path, text }: &Page) -> Vec<Dump> {
    let mut dumps: Vec<Dump> = Vec::new();
    let source = Path::new(path).extension().is_some_and(|end| end == "rs");
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        let line = if source {
            let comment = line.trim_start();
            let text = comment.strip_prefix("//!").or(comment.strip_prefix("///"));
            let Some(text) = text else {
                assert!(!open, "{path}:{number}: a dump that does not end");
                continue;
            };
            text.strip_prefix(' ').unwrap_or(text)
        } else {
            line
        };
        match (open, line.strip_prefix("```")) {
            (false, Some(tag)) if tag == "wire" || tag.starts_with("wire ") => {
                let place = format!("{path}:{}", number + 1);
                let error = match tag.strip_prefix("wire error=") {
                    Some(code) => Some(code.parse().unwrap()),
                    None => (tag != "wire").then(|| panic!("{place}: what is {tag:?}?")),
                };
                open = true;
                dumps.push(Dump {
                    place,
                    error,
                    text: String::new(),
                });
            }
            (true, Some(_)) => open = false,
            (true, None) => {
                let dump = dumps.last_mut().unwrap();
                dump.text.push_str(line);
                dump.text.push('\n');
            }
            (false, _) => {}
        }
    }
    assert!(!open, "{path}: a dump that does not end");
    dumps
}

/// The octets of a dump: the first 29 columns of each line.
fn octets(text: &str) -> Result<Bytes, String> {
    let mut octets = Vec::new();
    for line in text.lines() {
        let columns = line.get(..29).unwrap_or(line);
        for pair in columns.split_whitespace() {
            let octet = u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| pair.len() == 2);
            octets.push(octet.ok_or(format!("no octet: {pair:?} in {line:?}"))?);
        }
    }
    Ok(octets.into())
}

/// Decodes whole frames and protocol headers and encodes them again.
fn round_trip(octets: &Bytes) -> Result<BytesMut, String> {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 20, 1 << 20);
    let (mut inbound, mut encoded) = (BytesMut::from(octets.as_ref()), BytesMut::new());
    while !inbound.is_empty() {
        if inbound.starts_with(&PROTOCOL_HEADER) {
            encoded.extend_from_slice(&inbound.split_to(PROTOCOL_HEADER.len()));
            continue;
        }
        match decoder.decode(&mut inbound) {
            Ok(Some(frame)) => frame.encode(&mut encoded),
            Ok(None) => return Err("it ends inside a frame".into()),
            Err(bad) => return Err(bad.error.reply_code().0.to_string()),
        }
    }
    Ok(encoded)
}

/// What is wrong with a dump.
fn fault(dump: &Dump) -> Option<String> {
    let octets = match octets(&dump.text) {
        Ok(octets) => octets,
        Err(fault) => return Some(fault),
    };
    match (round_trip(&octets), dump.error) {
        (Ok(_), Some(code)) => return Some(format!("it is no mistake, {code} was expected")),
        (Ok(encoded), None) if encoded != octets => {
            return Some(format!(
                "encodes to\n{}",
                annotate(encoded, Redact::Nothing)
            ));
        }
        (Ok(_), None) => {}
        (Err(found), Some(code)) if found == code.to_string() => {}
        (Err(found), _) => return Some(format!("does not decode: {found}")),
    }
    // What a page shows is no secret.
    let annotated = annotate(octets, Redact::Nothing).to_string();
    (annotated != dump.text).then(|| format!("the annotator prints\n{annotated}"))
}

#[test]
fn every_dump_is_what_the_annotator_prints() {
    let pages = pages(
        &["README.md", "docs", "fuzz/README.md", "src"],
        &["md", "rs"],
    );
    let dumps: Vec<Dump> = pages.iter().flat_map(dumps).collect();
    assert!(dumps.len() >= 5, "dumps were found: {}", dumps.len());
    let complaint = |dump: &Dump| fault(dump).map(|fault| format!("{}: {fault}", dump.place));
    none(&dumps.iter().filter_map(complaint).collect::<Vec<_>>());
}

// ---- the tests of these tests ------------------------------------------------------------------------------------

#[test]
fn ids_are_found_where_they_stand_by_themselves() {
    let found = rule_ids("FRAME-6, (HDR-1) UTF-8; xFRAME-7 FRAME-8x A-1 AMQP 0-9-1 SEC-17.");
    assert_eq!(found, [("FRAME", 6), ("HDR", 1), ("UTF", 8), ("SEC", 17)]);
}

#[test]
fn a_dump_that_is_wrong_is_noticed() {
    let heartbeat = "08                            type         heartbeat\n\
                     00 00                         channel      0\n\
                     00 00 00 00                   size         0\n\
                     ce                            frame-end\n";
    let dump = |text: String, error| Dump {
        place: String::new(),
        error,
        text,
    };
    assert_eq!(fault(&dump(heartbeat.into(), None)), None);
    for (what, replaced, with) in [
        ("the label", "channel ", "chanel  "),
        ("the value", "channel      0", "channel      1"),
        ("a wrong frame-end", "ce  ", "cf  "),
        ("no octet", "08  ", "8   "),
        (
            "half a frame",
            "ce                            frame-end\n",
            "",
        ),
        ("another type", "08  ", "09  "),
    ] {
        let changed = heartbeat.replace(replaced, with);
        assert_ne!(changed, heartbeat, "{what}");
        assert!(fault(&dump(changed, None)).is_some(), "{what}");
    }
    let no_mistake = fault(&dump(heartbeat.into(), Some(501)));
    assert!(no_mistake.is_some());
    let broken = heartbeat.replace("ce  ", "cf  ");
    let shown = annotate(octets(&broken).unwrap(), Redact::Nothing).to_string();
    assert_eq!(fault(&dump(shown.clone(), Some(501))), None);
    assert!(fault(&dump(shown, Some(502))).is_some());
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

#[test]
fn quoted_files_are_told_from_other_words() {
    assert!(names_a_file("src/driver.rs") && names_a_file("Cargo.toml"));
    assert!(!names_a_file("cargo run") && !names_a_file("--hex") && !names_a_file("corpus/*.rec"));
    assert_eq!(quoted("a `b.rs` c `d`"), ["b.rs", "d"]);
    assert_eq!(links("[a](b.md#c) [d](e)"), ["b.md#c", "e"]);
    assert!(anchors("# 4. Content header & co\n").contains("4-content-header--co"));
}
