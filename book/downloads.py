"""Fill the page of downloads with the files that are there; what makes the book, the PDF or the labs calls this.

    .venv/bin/python book/downloads.py

Archives of notebooks and results are made here. The PDF is offered only while it is as new as the pages. The teacher's
kit holds the solutions, and is never put beside the pages.
"""

import re
import shutil
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

ROOT = Path(__file__).resolve().parent.parent
PAGE = "book/downloads.html"
LIST = re.compile(r'(<ul id="files">).*?(</ul>)', flags=re.DOTALL)


def archive(target: Path, folder: Path, pattern: str) -> None:
    """A zip of what is in a folder, which it holds as well."""
    with ZipFile(target, "w", ZIP_DEFLATED) as archived:
        for path in sorted(path for path in folder.rglob(pattern) if path.is_file() and ".ipynb_" not in str(path)):
            archived.write(path, path.relative_to(folder.parent))


def is_current(pdf: Path, html: Path) -> bool:
    """Whether the PDF was printed after the last page was written, but for this one and those that lead elsewhere."""
    pages = [page for part in ("book", "notebooks") for page in html.glob(f"{part}/**/*.html") if page != html / PAGE]
    return pdf.is_file() and pdf.stat().st_mtime >= max(page.stat().st_mtime for page in pages)


def entry(what: str, path: Path, command: str) -> str:
    """A line of the page: a link and its size, or how to make the file."""
    if not path.is_file():
        return f"<li>{what}: <code>{command}</code> makes it.</li>"
    size = path.stat().st_size
    said = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    return f'<li><a href="../downloads/{path.name}" download>{what}</a>, {said}</li>'


def refresh(root: Path = ROOT) -> None:
    """Put the files below the built pages, and what is there on the page of downloads; without the page do nothing."""
    html = root / "_build/html"
    page, target = html / PAGE, html / "downloads"
    if not page.is_file():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    archive(target / "notebooks.zip", root / "notebooks", "*.ipynb")
    archive(target / "results.zip", html / "results", "*")
    pdf, labs = root / "_build/aiecof.pdf", sorted((root / "_build/labs/zip").glob("*.zip"))
    for path in [*([pdf] if is_current(pdf, html) else []), *labs]:
        shutil.copyfile(path, target / path.name)
    files = [
        ("The book as one PDF, of this edition", "aiecof.pdf", "make pdf"),
        ("All notebooks", "notebooks.zip", "make book"),
        ("All results: tables, curves, trained policies", "results.zip", "make book"),
        *((f"Students' edition of <code>{path.stem}</code>", path.name, "make labs") for path in labs),
    ]
    files += [] if labs else [("Students' edition of the labs", "labs", "make labs")]
    lines = "".join(entry(what, target / name, command) for what, name, command in files)
    filled = LIST.sub(lambda match: f"{match[1]}{lines}{match[2]}", page.read_text(encoding="utf-8"))
    page.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    refresh()
