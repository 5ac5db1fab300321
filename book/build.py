"""Build the book into `_build/html`; `make book` calls this.

Notebook outputs are cached, and the cache looks only at the notebook: a changed formula in the package
would leave yesterday's numbers on the page. So everything a notebook reads is fingerprinted, and the
cache is dropped when the fingerprint changes, or when FORCE is set.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("aiecof/**/*.py", "aiecof/**/*.toml", "aiecof/**/*.json", "book/aiecof_book/**/*.py")
INPUTS = (*SOURCES, "results/**/*", "_config.yml", "_toc.yml", "requirements.lock")
STALE = (".jupyter_cache", ".doctrees", "html")


def fingerprint(root: Path) -> str:
    """Hash names and contents of all files that the notebooks depend on."""
    files = {path for pattern in INPUTS for path in root.glob(pattern) if path.is_file()}
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def drop_stale(root: Path, force: bool = False) -> bool:
    """Remove what an earlier build left behind if its inputs have changed since; say whether it did.

    The new fingerprint is written before the build: whatever the build then caches belongs to it.
    """
    output = root / "_build"
    stamp = output / "fingerprint"
    current = fingerprint(root)
    if not force and stamp.is_file() and stamp.read_text(encoding="ascii") == current:
        return False
    for name in STALE:
        shutil.rmtree(output / name, ignore_errors=True)
    output.mkdir(exist_ok=True)
    stamp.write_text(current, encoding="ascii")
    return True


def render(root: Path) -> bool:
    """Run Jupyter Book with warnings as errors; true if it ends with a start page."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root), "-W", "--keep-going"]
    environment = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    finished = subprocess.run(command, env=environment, check=False)
    succeeded = finished.returncode == 0 and (root / "_build/html/index.html").is_file()
    if succeeded and (static := root / "book/_static").is_dir():
        # Sphinx copies styles and scripts only when a page has changed.
        shutil.copytree(static, root / "_build/html/_static", dirs_exist_ok=True)
    if not succeeded:
        # An incremental build does not repeat the warnings of pages it has read: it would pass next time.
        shutil.rmtree(root / "_build/.doctrees", ignore_errors=True)
    return succeeded


def broken_equations(root: Path) -> list[str]:
    """Pages with an equation that would show red: a line break beside a tag, of which Sphinx does not warn."""
    pages = sorted((root / "_build/html").glob("**/*.html"))
    return [str(page.relative_to(root)) for page in pages if "begin{split}" in page.read_text(encoding="utf-8")]


def main(root: Path = ROOT) -> int:
    """Build the book and return the exit code."""
    if drop_stale(root, force=bool(os.environ.get("FORCE"))):
        print("Inputs have changed since the last build: every notebook is executed.", flush=True)
    if not render(root):
        print("The book was not built: see the warnings and errors above.", file=sys.stderr)
        return 1
    if broken := broken_equations(root):
        print(f"Break lines of a tagged equation with \\cr, not \\\\, in: {', '.join(broken)}", file=sys.stderr)
        return 1
    print(f"The book: {root / '_build/html/index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
