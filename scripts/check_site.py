"""Check the built documentation site: every link within it resolves, and nothing is fetched from the network.

`python scripts/check_site.py build/site`, as `make docs` does. Prints what is wrong; exits with 1 if anything is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED_ATTRIBUTES = {"src", "srcset", "poster", "data"}
FETCHED_BY_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")
FETCHED_BY_SCRIPT = re.compile(r"(?:fetch|import|importScripts|open)\s*\(\s*[\"'`]((?:https?:)?//[^\"'`]+)")


class Page(HTMLParser):
    """What a page points at and what can be pointed at in it.

    Attributes
    ----------
    anchors
        Identifiers of its elements.
    links
        Addresses of its links.
    fetched
        Addresses that a browser loads by itself: scripts, styles, pictures, icons.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value)
            elif name in FETCHED_ATTRIBUTES or (name == "href" and tag == "link"):
                self.fetched.append(value)
            elif name == "style":
                self.fetched += FETCHED_BY_STYLE.findall(value)


def broken_links(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield a sentence for every link or file that is not there."""
    for path, page in pages.items():
        for address in (*page.links, *page.fetched):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            fragment = unquote(parts.fragment)
            if not target.is_file():
                yield f"{path.relative_to(site)} points at {address}, which does not exist."
            elif fragment and target in pages and fragment not in pages[target].anchors:
                yield f"{path.relative_to(site)} points at {address}, but that page has no such place."


def fetched_from_the_network(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield a sentence for everything that a browser would load from elsewhere."""
    for path, page in pages.items():
        for address in page.fetched:
            if urlsplit(address).netloc:
                yield f"{path.relative_to(site)} loads {address} from the network."
    for pattern, suffix in ((FETCHED_BY_STYLE, "css"), (FETCHED_BY_SCRIPT, "js")):
        for path in sorted(site.rglob(f"*.{suffix}")):
            for address in pattern.findall(path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(site)} loads {address} from the network."


def problems(site: Path) -> list[str]:
    """Return everything that is wrong with a built site, one sentence each.

    Raises
    ------
    FileNotFoundError
        When there is no site.
    """
    site = site.resolve(strict=True)
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if site / "index.html" not in pages:
        raise FileNotFoundError(f"There is no site in {site}.")
    return [*broken_links(site, pages), *fetched_from_the_network(site, pages)]


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    sys.stdout.write("".join(f"{sentence}\n" for sentence in found))
    sys.exit(bool(found))
