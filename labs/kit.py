"""The teacher's kit, `_build/labs/kit.zip`: slides for each lab, the answers to what is discussed, rubric and mistakes.

    python labs/kit.py

The slides are made from the labs, from the answer boxes and figures of the built book (`make book`), and from
`labs/kit/discuss.md`; HTML for the room, and PDF if there is a Chromium.
"""

import base64
import html
import re
import shutil
import sys
from pathlib import Path

import regressions
from bs4 import BeautifulSoup
from checking import tag
from course import LABS, SOURCE, LabError, sources
from markdown_it import MarkdownIt
from nbformat import NotebookNode

ROOT = LABS.parent
BOOK, TARGET = ROOT / "_build/html", ROOT / "_build/labs"
TASK = re.compile(r"^## (Task \d+: .+) \((\d+) min, (\d+) points?\)$", re.MULTILINE)
TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}
STYLE = """
@page { size: 254mm 143mm; margin: 0 }
body { margin: 0; font: 22px/1.4 system-ui, sans-serif; color: #1b1b1b; background: #fff }
section { box-sizing: border-box; width: 960px; min-height: 540px; margin: 0 auto; padding: 36px 56px;
  break-after: page; border-bottom: 1px solid #ccc }
h1, h2 { line-height: 1.2; margin: 0 0 18px } h1 { font-size: 44px } h2 { font-size: 32px }
img { display: block; max-width: 848px; max-height: 330px; margin: 0 auto }
table { border-collapse: collapse; width: 100% }
td, th { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }
td + td + td, td + td, th + th { text-align: right } .mistakes td + td, .mistakes th + th { text-align: left }
.mistakes, .small { font-size: 17px } .source { color: #666; font-size: 16px }
"""
MARKDOWN = MarkdownIt().enable("table")


def render(text: str) -> str:
    """Markdown as HTML; a formula of a few letters needs no more than italics and superscripts."""

    def formula(found: re.Match) -> str:
        plain = found[1].replace("\\times", "×")
        return "<i>" + re.sub(r"\^(?:\{(.+?)\}|(\w))", lambda part: f"<sup>{part[1] or part[2]}</sup>", plain) + "</i>"

    return re.sub(r"\$(.+?)\$", formula, MARKDOWN.render(text))


def chapters(lab: str) -> dict[str, str]:
    """Title -> page of the chapters that a lab needs, as the table of `book/labs.md` has them."""
    [row] = re.findall(rf"^\| `{lab}` \|.*$", (ROOT / "book/labs.md").read_text("utf-8"), re.MULTILINE)
    links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", row)
    return {
        title: (Path("book") / link).with_suffix(".html").as_posix().replace("book/../", "") for title, link in links
    }


def quoted(page: Path, title: str) -> str:
    """The slide of a chapter: its answer and its first figure."""
    if not page.is_file():
        raise LabError(f"{page} is not there: build the book first (make book)")
    article = BeautifulSoup(page.read_text("utf-8"), "html.parser").find("article")
    box = article.find("aside", class_="answer")
    said = f"<h2>{html.escape(title)}</h2>{box.decode_contents() if box else ''}"
    for image in article.find_all("img"):
        file = (page.parent / image.get("src", "")).resolve()
        if file.suffix in TYPES and file.is_file():
            text = base64.b64encode(file.read_bytes()).decode()
            alt = html.escape(image.get("alt", ""), quote=True)
            return f'{said}<img alt="{alt}" src="data:{TYPES[file.suffix]};base64,{text}">'
    return said


def discussed(lab: str) -> dict[str, str]:
    """Id of a *Discuss* cell -> the model answer."""
    text = (LABS / "kit/discuss.md").read_text("utf-8").split(f"\n# {lab}\n")[1].split("\n# ")[0]
    return {name: answer.strip() for name, answer in re.findall(r"^## `([\w-]+)`\n(.*?)(?=^## |\Z)", text, re.M | re.S)}


def questions(notebook: NotebookNode) -> dict[str, str]:
    """Id of a *Discuss* cell -> the question."""
    return {cell.id: cell.source for cell in notebook.cells if cell.source.startswith("**Discuss.**")}


def slides(lab: str, notebook: NotebookNode, book: Path = BOOK) -> str:
    """The slides of a lab as a page of its own."""
    first = notebook.cells[0].source
    title, goals = first.splitlines()[0], re.search(r"\*\*You learn\*\*.*?(?=\n\n)", first, re.S)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    rows = "".join(f"| {name} | {minutes} | {points} |\n" for name, minutes, points in TASK.findall(text))
    made = [render(f"{title}\n\n{goals[0]}")]
    for name, page in chapters(lab).items():
        made.append(quoted(book / page, name))
    made.append(render(f"## Your tasks\n\n| Task | minutes | points |\n|---|---|---|\n{rows}"))
    answers = discussed(lab)
    for name, question in questions(notebook).items():
        made += [render(f"## Discuss\n\n{question}"), render(f"## What might be said\n\n{answers[name]}")]
    wrong = [answer for answer in regressions.answers(LABS / f"handins/{lab}.md") if answer.kind == "wrong"]
    table = "".join(f"| {answer.name} | {answer.why} |\n" for answer in wrong)
    mistakes = render(f"## What went wrong\n\n| Mistake | What it is |\n|---|---|\n{table}")
    made.append(f'<div class="mistakes">{mistakes}</div>')
    body = "\n".join(f"<section>{slide}</section>" for slide in made)
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title[2:])}</title>'
            f"<style>{STYLE}</style><body>{body}</body></html>")  # fmt: skip


def rubric(notebook: NotebookNode) -> str:
    """What each check gives points for, in the words that it has for those who miss it."""
    lines = [
        f"\n## {notebook.cells[0].source.splitlines()[0][2:]}\n\n| Check | Points | What it looks at |\n|---|---|---|\n"
    ]
    for cell in notebook.cells:
        if tag(cell).get("grade"):
            says = re.findall(r'^\s*assert .*, f?"([^"]+)"$', cell.source, re.MULTILINE)
            lines.append(
                f"| `{tag(cell)['grade_id']}` | {tag(cell)['points']} | {' '.join(says).replace('|', '/')} |\n"
            )
    return "".join(lines)


def print_slides(pages: list[Path]) -> bool:
    """A PDF beside each page; False if there is no browser."""
    sys.path.insert(0, str(ROOT / "book"))
    from browsing import find_browser

    if find_browser() is None:
        return False
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=find_browser()).new_page()
        for path in pages:
            page.goto(path.as_uri())
            page.pdf(path=path.with_suffix(".pdf"), prefer_css_page_size=True, print_background=True)
    return True


def kit(target: Path = TARGET, book: Path = BOOK) -> Path:
    """Write the kit's folder and zip file; returns the latter."""
    folder, labs = target / "kit", sources(SOURCE)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("slides", "mistakes", "solved"):
        (folder / name).mkdir(parents=True)
    pages = [folder / f"slides/{lab}.html" for lab in labs]
    for page, (lab, notebook) in zip(pages, labs.items(), strict=True):
        page.write_text(slides(lab, notebook, book), "utf-8")
        shutil.copy(LABS / f"handins/{lab}.md", folder / "mistakes")
        shutil.copy(SOURCE / lab / f"{lab}.ipynb", folder / "solved")
    if not print_slides(pages):
        print("no browser: the slides are HTML only", file=sys.stderr)
    (folder / "rubric.md").write_text("# Rubric\n" + "".join(map(rubric, labs.values())), "utf-8")
    for path in (*LABS.glob("kit/*"), ROOT / "book/teaching.md", ROOT / "book/labs.md"):
        shutil.copy(path, folder)
    return Path(shutil.make_archive(str(target / "kit"), "zip", target, "kit"))


def main() -> int:
    """Make the kit and return the exit code."""
    try:
        print(f"The teacher's kit: {kit()}")
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
