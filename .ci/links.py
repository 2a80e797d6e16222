#!/usr/bin/env python3
"""Follows every link of the built book: to a page, to a heading on it, to a file of the project or to a line of one."""
import html.parser
import pathlib
import sys
import urllib.parse

BOOK = pathlib.Path(__file__).parent.parent / "book"


class Page(html.parser.HTMLParser):
    """What a page can be linked to by, and what it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name"):
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def fault(path, link, pages):
    url = urllib.parse.urlsplit(link)
    if url.scheme or url.netloc:
        return None
    there = path.parent / urllib.parse.unquote(url.path) if url.path else path
    there = there.resolve()
    anchor = urllib.parse.unquote(url.fragment)
    if not there.exists():
        return "no such file"
    if there in pages and anchor and anchor not in pages[there].ids:
        return "no such heading"
    if anchor.startswith("L") and there not in pages and int(anchor[1:]) > len(there.read_text().splitlines()):
        return "no such line"
    return None


def main():
    pages = {path.resolve(): Page(path) for path in sorted(BOOK.rglob("*.html"))}
    faults, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            followed += 1
            if why := fault(path, link, pages):
                faults.append(f"{path.relative_to(BOOK.resolve())}: {link}: {why}")
    print("\n".join(faults))
    print(f"{len(pages)} pages, {followed} links, {len(faults)} lead nowhere")
    sys.exit(1 if faults or len(pages) < 30 else 0)


main()
