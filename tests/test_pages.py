"""The built book as its readers meet it: every page in a headless browser without a network (`make check`)."""

import functools
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import serve, wait_until_drawn
from bs4 import BeautifulSoup
from page_repairs import REDIRECTS

HTML = Path(__file__).resolve().parent.parent / "_build/html"
FOUND = sorted(path.relative_to(HTML) for path in HTML.rglob("*.html") if not {"_static", "_modules"} & {*path.parts})
MOVED = [path.as_posix() for path in FOUND if path.stem in REDIRECTS]
PAGES = [path.as_posix() for path in FOUND if path.as_posix() not in MOVED]
CHAPTERS = [path for path in PAGES if path.startswith("notebooks/")]
INDEXES = {"notebooks/gallery.html", "notebooks/paper_index.html"}
"""Pages among the notebooks that lead to others, and ask nothing themselves."""
QUESTIONS = Path(__file__).with_name("pages.js").read_text(encoding="utf-8").strip().partition("\n")[2]
MOST_CELLS, MOST_WORDS, MOST_PREDICTIONS, SMALLEST_TEXT = 6, 1600, 2, 9.0
"""Visible cells, words and predictions of a chapter; pixels of text in a figure."""
HEAVIEST, SLOWEST_PAINT = 2e6, 1.0
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


def violations(page, *rules):
    """What axe-core finds serious or critical by these rules (none: all), with the first element of each."""
    options = {"preload": False} | ({"runOnly": {"type": "rule", "values": rules}} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    grave = [entry for entry in found if entry["impact"] in ("serious", "critical")]
    return [f"{entry['id']} in {len(entry['nodes'])}: {entry['nodes'][0]['html'][:200]}" for entry in grave]


def asked(page, question, *arguments):
    """What a function of `pages.js` says of a page."""
    return page.evaluate(f"arguments => ({QUESTIONS}).{question}(...arguments)", list(arguments))


def flaws(page):
    """What cannot be read on a page as it stands: code, tables and text in figures."""
    return asked(page, "flaws", SMALLEST_TEXT)


@functools.cache
def parsed(path):
    return BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")


def set_scheme(page, scheme):
    """Show a page in light or dark colours."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector(f"html[data-theme={scheme}]")


def lacks(form):
    """What a chapter has not, or has too much of."""
    limits = {"predictions": MOST_PREDICTIONS, "cells": MOST_CELLS, "words": MOST_WORDS, "pixels": 0}
    excess = [f"{form[name]} {name}, at most {most}" for name, most in limits.items() if form[name] > most]
    late = [f"prediction behind what answers it: {question}" for question in form["late"]]
    return excess + late + ([] if form["answers"] == 1 else [f"{form['answers']} answer boxes"])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_works_for_everybody_and_alone(visit, path):
    """One visit for all questions, because opening a page takes longest: wide, then dark, then narrow."""
    page, seen = visit(path)
    faults = {name: [*seen[name]] for name in ("elsewhere", "errors", "failed")}
    faults["equations"] = page.locator("mjx-merror").count()
    faults["bytes"] = seen["bytes"] * (seen["bytes"] > HEAVIEST)
    faults["seconds"] = (seconds := first_paint(page)) * (seconds > SLOWEST_PAINT)
    faults["wide"] = flaws(page)
    if path in CHAPTERS and path not in INDEXES:
        faults["form"] = lacks(asked(page, "form"))
    set_scheme(page, "light")
    faults["light"] = violations(page)
    set_scheme(page, "dark")
    faults["dark"] = violations(page, "color-contrast")  # the only rule that colours have a part in
    page.set_viewport_size(NARROW)
    faults["too wide"] = max(0, page.evaluate("document.documentElement.scrollWidth") - NARROW["width"])
    faults["narrow"] = flaws(page)
    assert {name: found for name, found in faults.items() if found} == {}


def test_a_prediction_is_answered_by_keyboard(visit):
    page, _ = visit("notebooks/figure_8.html")
    form = page.locator("form.predict").first
    form.locator("input").first.focus()
    page.keyboard.press("Space")
    assert form.locator(".reply").inner_text().startswith(("Right.", "No."))


def test_exceptions_are_pages():
    assert {*PAGES} >= INDEXES


@pytest.mark.parametrize("path", MOVED)
def test_an_old_address_leads_on(path):
    assert (HTML / path).with_name(parsed(path).find("a")["href"]).exists()


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
