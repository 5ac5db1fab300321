"""The built book as its readers meet it: every page in a headless browser without a network (`make check`)."""

import functools
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import serve, wait_until_drawn
from bs4 import BeautifulSoup

HTML = Path(__file__).resolve().parent.parent / "_build/html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)
HEAVIEST, SLOWEST_PAINT = 3e6, 1.0
"""Bytes of a page with all it loads; seconds until something is seen."""
PATIENCE = 180
"""Seconds to wait for what has to come: a busy machine is no fault of the page."""
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.book,
    pytest.mark.skipif(not PAGES, reason="there is no built book: make book"),
]


@pytest.fixture(scope="session")
def address():
    """Address of a server that shows the built book."""
    with serve(HTML) as place:
        yield place


@pytest.fixture
def visit(browser, address):
    """Open a page of the book; returns it with what it asked for, all from elsewhere being refused."""
    page, seen = browser.new_page(viewport=WIDE), {"elsewhere": [], "errors": [], "failed": [], "bytes": 0}
    page.set_default_timeout(1000 * PATIENCE)

    def opened(path):
        def fetch(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                seen["elsewhere"].append(route.request.url)
                route.abort()

        def count(response):
            seen["failed"] += [response.url] if response.status >= 400 else []
            size = len(response.body()) if response.status == 200 else 0  # while it is read, others are counted
            seen["bytes"] += size

        page.route("**/*", fetch)
        page.on("console", lambda message: seen["errors"].append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: seen["errors"].append(str(error)))
        page.on("requestfinished", lambda request: count(request.response()))
        page.goto(address + path, wait_until="load")
        wait_until_drawn(page)
        return page, seen

    yield opened
    page.close()


def first_paint(page, loads=6):
    """Seconds until something is seen; a busy machine delays some loads, so the quickest of a few counts."""
    painted = page.wait_for_function("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    seconds = painted.json_value() / 1000
    if seconds < SLOWEST_PAINT or loads == 1:
        return seconds
    page.reload()
    return first_paint(page, loads - 1)


def violations(page):
    """What axe-core finds serious or critical, with the first element of each."""
    found = Axe().run(page).response["violations"]
    grave = [entry for entry in found if entry["impact"] in ("serious", "critical")]
    return [f"{entry['id']} in {len(entry['nodes'])}: {entry['nodes'][0]['html'][:200]}" for entry in grave]


@functools.cache
def parsed(path):
    return BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_works_for_everybody_and_alone(visit, path):
    """One visit: wide, then dark, then narrow, because opening a page takes longest."""
    page, seen = visit(path)
    assert seen["elsewhere"] == [], "asked for by the page"
    assert seen["errors"] == [] and seen["failed"] == []
    assert page.locator("mjx-merror").count() == 0
    assert seen["bytes"] < HEAVIEST
    assert first_paint(page) < SLOWEST_PAINT
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_selector(f"html[data-theme={scheme}]")
        assert violations(page) == [], scheme
    page.set_viewport_size(NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], "wider than a telephone"


@pytest.mark.parametrize("path", PAGES)
def test_every_picture_has_its_text(path):
    pictures = parsed(path).find_all("img")
    assert [picture["src"] for picture in pictures if not picture.get("alt", "").strip()] == []
    # Sphinx puts the file's name where no text was given.
    assert [picture["src"] for picture in pictures if re.search(r"\.(svg|png)$", picture["alt"])] == []


@pytest.mark.parametrize("path", PAGES)
def test_every_link_inside_the_book_leads_somewhere(path):
    broken = []
    for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
        for entry in parsed(path).find_all(tag, attrs={attribute: True}):
            if urlparse(entry[attribute]).scheme or entry[attribute].startswith("//"):
                continue
            target, anchor = urldefrag(urljoin(f"/{path}", entry[attribute]))
            target = unquote(target.partition("?")[0]).lstrip("/")
            anchors = target.endswith(".html") and anchor and (HTML / target).exists()
            if not (HTML / target).exists() or (anchors and not parsed(target).find(id=unquote(anchor))):
                broken.append(entry[attribute])
    assert broken == []
