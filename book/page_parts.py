"""Sphinx extension: parts of pages that are made while the book is built.

- `<!-- api system -->`, `<!-- front door -->` and `<!-- commands -->` become the reference.
- `<!-- clone -->` becomes the lines that get the repository, if `repository.url` of `_config.yml` has its address.
- An equation named in a docstring leads to its place in the book, a name of the package in the text to its reference.
- `results/` is published beside the pages, so that each can link the tables that it reads.
"""

import re
import shutil
from pathlib import Path

import house
from aiecof_book import reference
from docutils import nodes
from sphinx.ext import autosummary
from sphinx.util.nodes import make_refnode

MARKER = re.compile(r"<!-- (api|front door|commands|clone)(?: ?([a-z]*)) -->")
PUBLISHED = ("*.csv", "*.json", "*.parquet", "paper/*.csv", "policies/*.safetensors", "board/*/*.json", "board/*/*.py")


def repository_address(app) -> str:
    """`repository.url` of `_config.yml`; empty where the repository has no address yet."""
    return app.config.html_theme_options.get("repository_url", "")


def set_buttons(app, config):
    """Show the buttons that lead to the repository or start from it, if it has an address."""
    options, known = config.html_theme_options, bool(repository_address(app))
    options.update(use_repository_button=known, use_issues_button=known)
    if not known:
        options["launch_buttons"] = {}


def clone(address: str) -> str:
    """Markdown of how to get the repository."""
    return f"```sh\ngit clone {address}\ncd {address.rstrip('/').rpartition('/')[2]}\n```" if address else ""


def fill(app, docname, source):
    """Put the made parts where a page marks them."""

    def made(marker):
        kind, folder = marker.groups()
        if kind == "clone":
            return clone(repository_address(app))
        if kind == "api":
            return reference.api(folder, house.ORDER[f"aiecof.{folder}".rstrip(".")].split())
        return reference.commands() if kind == "commands" else reference.front_door()

    source[0] = MARKER.sub(made, source[0])


def adapt_docstring(app, what, name, obj, options, lines):
    """Lead from a docstring's `(Eqs. 7, 20)` to these equations; a bar in a formula is a bar."""
    lines[:] = [line.replace("|", "\\|") for line in lines]
    lines[:1] = [
        re.sub(r"\(Eqs?\. [\d, ]+\)", lambda m: re.sub(r"\d+", r":ref:`\g<0> <eq-\g<0>>`", m[0]), line)
        for line in lines[:1]
    ]


def shorten_signature(app, what, name, obj, options, signature, returned):
    """Say in a line or two how something is called."""
    return (reference.short_signature(obj, signature), returned) if signature else None


def add_arguments(app, what, name, obj, options, lines):
    """A class whose signature is cut short has its arguments below."""
    lines.extend(reference.arguments(obj))


def link_names(app, doctree, docname):
    """Lead from a name of the package in the text, in full or as `module.name`, to its reference."""
    known, ends = app.env.get_domain("py").objects, {}
    for name in known:
        parts = name.split(".")
        for start in range(len(parts) - 1):
            ends.setdefault(".".join(parts[start:]), set()).add(name)
    for literal in list(doctree.findall(nodes.literal)):
        found = ends.get(literal.astext().removesuffix("()"), ())
        if len(found) == 1 and not isinstance(literal.parent, (nodes.reference, nodes.title)):
            [name] = found
            entry = known[name]
            link = make_refnode(app.builder, docname, entry.docname, entry.node_id, literal.deepcopy(), name)
            literal.replace_self(link)


def publish(app, exception):
    """Copy the results beside the pages."""
    source = Path(app.srcdir, "results")
    for path in (path for pattern in PUBLISHED for path in source.glob(pattern)):
        target = Path(app.outdir, "results", path.relative_to(source))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def setup(app):
    """Before other extensions read a page."""
    app.setup_extension("sphinx.ext.autodoc")
    autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.", "Eqs.", "Fig.", "Figs.")  # no sentence ends there
    app.connect("config-inited", set_buttons)
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", adapt_docstring, priority=100)
    app.connect("autodoc-process-docstring", add_arguments, priority=900)  # when numpydoc is done
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("doctree-resolved", link_names)
    app.connect("build-finished", publish)
    return {"parallel_read_safe": True}
