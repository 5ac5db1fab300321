"""Build the book into `_build/html`; `make book` calls this.

Notebook outputs are cached, and the cache looks only at the notebook: a changed formula in the package
would leave yesterday's numbers on the page. So everything a notebook reads is fingerprinted, and the
cache is dropped when the fingerprint changes, or when FORCE is set. Pages are written anew, from cached
outputs, when what they are made by has changed: configuration, contents or extensions.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import downloads

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("aiecof/**/*.py", "aiecof/**/*.toml", "aiecof/**/*.json", "book/aiecof_book/**/*.py")
INPUTS = {
    "outputs": (*SOURCES, "results/**/*", "requirements.lock"),
    "pages": ("_config.yml", "_toc.yml", "book/*.py"),
}
"""What outputs of notebooks and pages are made from, apart from their own text."""
STALE = {"whole": (".jupyter_cache", ".doctrees", "html"), "pages": (".doctrees", "html"), "changes": ()}
"""Kind of a build -> what it has to make anew."""
WORDS = {
    "whole": "every notebook is executed",
    "pages": "every page is written anew",
    "changes": "only what has changed is executed",
}
USUAL = {
    "whole": "3 to 10 minutes on two cores",
    "pages": "a minute",
    "changes": "seconds, and a minute or less for a changed notebook",
}
"""How long a build takes where none of its kind has been measured."""
STEP = re.compile(r"(reading sources|writing output)\.\.\. \[ *(\d+)%\]")
EXECUTES, EXECUTED = re.compile(r"([\w-]+[/\\][\w.-]+): Executing"), re.compile(r"Executed notebook in ([\d.]+)")
NOISE = re.compile(r"\.\.\. \[ *\d+%\]|IPKernelApp|^myst(-nb)? v|Executing notebook|Executed notebook|Cached executed")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def fingerprint(root: Path, what: str) -> str:
    """Hash names and contents of all files that outputs of notebooks, or pages, depend on."""
    files = {path for pattern in INPUTS[what] for path in root.glob(pattern) if path.is_file()}
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def drop_stale(root: Path, force: bool = False) -> str:
    """Remove what an earlier build left behind if its inputs have changed since; returns the kind of the next build.

    The new fingerprints are written before the build: whatever the build then caches belongs to them.
    """
    output = root / "_build"
    stamp = output / "fingerprints.json"
    current = {what: fingerprint(root, what) for what in INPUTS}
    known = json.loads(stamp.read_text(encoding="ascii")) if stamp.is_file() and not force else {}
    kind = "changes" if known == current else "pages" if known.get("outputs") == current["outputs"] else "whole"
    for name in STALE[kind]:
        shutil.rmtree(output / name, ignore_errors=True)
    output.mkdir(exist_ok=True)
    stamp.write_text(json.dumps(current), encoding="ascii")
    return kind


def lasts(root: Path, kind: str) -> str:
    """How long a build of this kind takes: as long as the last one here, or what is usual."""
    try:
        seconds = json.loads((root / "_build/seconds.json").read_text(encoding="ascii"))[kind]
    except (OSError, ValueError, KeyError):
        return USUAL[kind]
    return f"the last time {seconds // 60} min {seconds % 60} s"


def keep_seconds(root: Path, kind: str, seconds: float) -> None:
    """Remember how long a build of this kind took."""
    path = root / "_build/seconds.json"
    known = json.loads(path.read_text(encoding="ascii")) if path.is_file() else {}
    path.write_text(json.dumps(known | {kind: round(seconds)}), encoding="ascii")


def tell(line: str, done: str) -> str:
    """Show a line for each notebook that is executed, and one for the pages; returns how much is done [%]."""
    if step := STEP.search(line):
        if step[1] == "writing output" and done != "written":
            print("Rendering the pages.", flush=True)
        return "written" if step[1] == "writing output" else step[2]
    if executes := EXECUTES.search(line):
        print(f"  {done:>3} %  {executes[1]:<50}", end="", flush=True)
    elif executed := EXECUTED.search(line):
        print(f"{float(executed[1]):6.1f} s", flush=True)
    return done


def render(root: Path) -> bool:
    """Run Jupyter Book with warnings as errors; true if it ends with a start page."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root), "-W", "--keep-going"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    environment = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    lines, done = [], "0"
    with subprocess.Popen(command, env=environment, **options) as running:
        for line in running.stdout:
            lines.append(COLOUR.sub("", line))
            done = tell(lines[-1], done)
    (root / "_build/book.log").write_text("".join(lines), encoding="utf-8")
    succeeded = running.returncode == 0 and (root / "_build/html/index.html").is_file()
    if succeeded and (static := root / "book/_static").is_dir():
        # Sphinx copies styles and scripts only when a page has changed.
        shutil.copytree(static, root / "_build/html/_static", dirs_exist_ok=True)
    if not succeeded:
        print("\n", *(line for line in lines if not NOISE.search(line)), sep="", file=sys.stderr)
        # An incremental build does not repeat the warnings of pages it has read: it would pass next time.
        shutil.rmtree(root / "_build/.doctrees", ignore_errors=True)
    return succeeded


def broken_equations(root: Path) -> list[str]:
    """Pages with an equation that would show red: a line break beside a tag, of which Sphinx does not warn."""
    pages = sorted((root / "_build/html").glob("**/*.html"))
    return [str(page.relative_to(root)) for page in pages if "begin{split}" in page.read_text(encoding="utf-8")]


def main(root: Path = ROOT) -> int:
    """Build the book and return the exit code."""
    began = time.monotonic()
    kind = drop_stale(root, force=bool(os.environ.get("FORCE")))
    print(f"Building the book: {WORDS[kind]} ({lasts(root, kind)}).", flush=True)
    if not render(root):
        print(f"The book was not built: see above, or {root / '_build/book.log'}.", file=sys.stderr)
        return 1
    if broken := broken_equations(root):
        print(f"Break lines of a tagged equation with \\cr, not \\\\, in: {', '.join(broken)}", file=sys.stderr)
        return 1
    downloads.refresh(root)
    keep_seconds(root, kind, time.monotonic() - began)
    print(f"The book: {root / '_build/html/index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
