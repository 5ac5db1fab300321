"""Print the built book into `_build/aiecof.pdf`, page by page in headless Chromium; `make pdf` calls this."""

import io
import sys
from pathlib import Path

from aiecof_book.equations import book_titles
from browsing import LACKING, find_browser, serve, wait_until_drawn
from playwright.sync_api import sync_playwright
from pypdf import PdfWriter

ROOT = Path(__file__).resolve().parent.parent
# What is folded is opened, except code. A link to another page would lead to this machine: its text stays.
PREPARE = """() => {
  document.querySelectorAll("details:not(.above-input)").forEach(entry => { entry.open = true; entry.hidden = false; });
  document.querySelectorAll(".toggle-hidden").forEach(entry => entry.classList.remove("toggle-hidden"));
  document.querySelectorAll("article a[href]").forEach(link => {
    if (link.origin === location.origin && link.pathname !== location.pathname) link.removeAttribute("href");
  });
}"""
MARGIN = dict.fromkeys(("top", "right", "bottom", "left"), "15mm")
PAPER = {"format": "A4", "margin": MARGIN, "scale": 0.8, "print_background": True}


def print_book(root: Path = ROOT) -> Path:
    """One PDF of all pages in the order of the table of contents, with their titles as its outline."""
    writer, target = PdfWriter(), root / "_build/aiecof.pdf"
    with serve(root / "_build/html") as address, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=find_browser()).new_page(color_scheme="light")
        for source, title in book_titles(root).items():
            page.goto(address + Path(source).with_suffix(".html").as_posix())
            wait_until_drawn(page)
            page.evaluate(PREPARE)
            writer.append(io.BytesIO(page.pdf(**PAPER)), outline_item=title)
    writer.add_metadata({"/Title": next(iter(book_titles(root).values()))})
    writer.write(target)
    return target


def main() -> int:
    """Print the book and return the exit code."""
    if not find_browser():
        print(LACKING, file=sys.stderr)
        return 1
    if not (ROOT / "_build/html/index.html").exists():
        print("there is no built book: make book", file=sys.stderr)
        return 1
    print(f"The book in one file: {print_book()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
