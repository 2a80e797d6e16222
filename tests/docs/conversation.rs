//! docs/conversation.md is what the demo prints, and docs/conversation.html what it writes.

use std::{fs, path::Path, process::Command};

use crate::{
    dumps::octets,
    pages::{Finding, Page, hold, read},
};

const PAGE: &str = "docs/conversation.html";

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

/// The page that it writes under this name, and what it prints meanwhile.
fn written(name: &str, arguments: &[&str]) -> (String, String) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let arguments = [arguments, &["--html", file.to_str().unwrap()]].concat();
    let printed = demo(&arguments);
    (fs::read_to_string(file).unwrap(), printed)
}

/// Where lines differ from what they should be, and those that they should be.
fn finding(page: &[&str], first: usize, demo: &[&str], does: &str) -> Vec<Finding> {
    if page == demo {
        return Vec::new();
    }
    let differs = page.iter().zip(demo).position(|(page, demo)| page != demo);
    let line = first + 1 + differs.unwrap_or(page.len().min(demo.len()));
    let why =
        format!("the demo {does} something else; BLESS=1 cargo test --test docs writes it anew");
    let lines = first..first + page.len();
    vec![Finding::stale(line, why, lines, demo.join("\n"))]
}

#[test]
fn the_conversation_is_what_the_demo_prints() {
    let printed = demo(&["--hex"]);
    let printed: Vec<_> = printed.trim_matches('\n').lines().collect();
    hold(&[Page::read("docs/conversation.md")], |page| {
        let lines: Vec<_> = page.text.lines().collect();
        let fence = lines.iter().position(|line| *line == "```text").unwrap();
        let end = lines.iter().rposition(|line| *line == "```").unwrap();
        finding(&lines[fence + 1..end], fence + 1, &printed, "prints")
    });
}

#[test]
fn the_page_of_the_conversation_is_what_the_demo_writes() {
    let (page, printed) = written("conversation.html", &[]);
    assert!(printed.ends_with("conversation.html.\n"), "{printed}");
    for fetched in ["://", "src=", "url(", "@import"] {
        assert!(
            !page.contains(fetched),
            "{fetched} in a page that is complete in itself"
        );
    }
    let page: Vec<_> = page.lines().collect();
    hold(&[Page::read(PAGE)], |found| {
        let found: Vec<_> = found.text.lines().collect();
        finding(&found, 0, &page, "writes")
    });
}

/// Also where there is no reply queue and another number.
#[test]
fn every_frame_and_every_field_is_explained() {
    let (direct, _) = written("direct.html", &["20", "--reply-mode", "direct"]);
    for page in [direct, read(PAGE)] {
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
    let dumped: Vec<_> = dumped.map(|line| octets(line).unwrap()).collect();
    let page = read(PAGE);
    let (page, _) = page.split_once("What was not heard</h2>").unwrap();
    let groups = page.split("class=\"octets\"").skip(1);
    let texts = groups.flat_map(|group| {
        let (group, _) = group.split_once("</div>").unwrap();
        let texts = group.split("\">").skip(2);
        texts.map(|text| text.split_once("</a>").unwrap().0)
    });
    let pairs = texts.flat_map(|text| text.split(' '));
    let shown: Vec<_> = pairs
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    assert_eq!(shown, dumped.concat());
}
