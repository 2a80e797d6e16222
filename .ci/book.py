#!/usr/bin/env python3
"""A preprocessor of mdbook: the pages of docs/ link to files, the pages of the book to each other.

On a code host a page links to README.md, and that is index.html in the book. Pages outside of docs/ become pages of the
book as well. A link to any other file stays: the book lies beside docs/, so ../src leads from both to the sources.
"""
import json
import os
import posixpath
import re
import sys

ROOT = posixpath.join(posixpath.dirname(posixpath.abspath(__file__)), "..")

# Pages outside of docs/: the file, its page and its name in the book.
OUTSIDE = [
    ("README.md", "project.md", "The project"),
    ("fuzz/README.md", "fuzzing.md", "Fuzzing"),
    ("tests/data/README.md", "test-data.md", "Data for the tests"),
]

# conversation.html lies in docs/ itself.
RENAMED = {"conversation.md": "one-conversation.md"}


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def file_of(chapter):
    return posixpath.normpath("docs/" + chapter["source_path"])


def rewritten(text, file, pages):
    """The text with its links, those in fences and in code left alone."""
    def link(match):
        target, hash, anchor = (match[1] or "").partition("#")
        if not target or "://" in target:
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        if there.endswith(".md") and there not in pages:
            sys.exit(f"{file}: {there} is no page of the book: add it to .ci/book.py")
        return f"]({pages.get(there, os.path.relpath(there, 'docs'))}{hash}{anchor})"

    return re.sub(r"^```.*?^```|`[^`\n]+`|\]\(([^)\s]+)\)", link, text, flags=re.M | re.S)


def main():
    if sys.argv[1:2] == ["supports"]:
        sys.exit(0)
    _, book = json.load(sys.stdin)
    book["items"].append({"PartTitle": "Beside these pages"})
    for file, path, name in OUTSIDE:
        with open(posixpath.join(ROOT, file), encoding="utf-8") as page:
            book["items"].append({"Chapter": {
                "name": name, "content": page.read(), "number": None, "sub_items": [], "path": path,
                "source_path": "../" + file, "parent_names": [],
            }})
    for chapter in chapters(book["items"]):
        chapter["path"] = RENAMED.get(chapter["path"], chapter["path"])
    pages = {file_of(chapter): chapter["path"] for chapter in chapters(book["items"])}
    for chapter in chapters(book["items"]):
        chapter["content"] = rewritten(chapter["content"], file_of(chapter), pages)
    json.dump(book, sys.stdout)


main()
