"""The reference pages as Markdown, made from what is there: the public names of the package, and its commands."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import aiecof

HOME = Path(aiecof.__file__).parent
LONGEST = 150
"""Letters of the signature of a class."""


def public_names(path: Path) -> Iterator[tuple[str, str]]:
    """(name, "function" or "class") of everything public that a module defines, in its order."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        kind = {ast.FunctionDef: "function", ast.ClassDef: "class"}.get(type(node))
        if kind and not node.name.startswith("_"):
            yield node.name, kind


def api(folder: str, modules: Iterable[str]) -> str:
    """Markdown of these modules of a folder, such as `system`; "" for those beside the folders."""
    return "\n".join(_modules(folder, modules))


def _modules(folder: str, modules: Iterable[str]) -> Iterator[str]:
    for name in modules:
        path = HOME / folder / f"{name}.py"
        source, named = path.read_text(encoding="utf-8"), [*public_names(path)]
        if not named:
            continue
        module = ".".join(["aiecof", *filter(None, [folder]), name])
        text = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
        yield f"## `{module}`\n\n{text}\n"
        yield "```{eval-rst}\n.. autosummary::\n   :nosignatures:\n\n"
        yield "".join(f"   ~{module}.{name}\n" for name, _ in named)
        for name, kind in named:
            members = "\n   :members:" if kind == "class" else ""
            yield f".. auto{kind}:: {module}.{name}{members}\n"
        yield "```\n"


def short_signature(thing: object, signature: str) -> str:
    """A signature of a line or two: of a class with many arguments only the first, which `arguments` completes."""
    if first := _too_many(thing)[:3]:
        signature = f"({', '.join(first)}, ...)"
    return re.sub(r"=<.*?>+(?=[,)])", "=...", signature)


def arguments(thing: object) -> Iterator[str]:
    """Lines of reStructuredText that complete a signature cut short: every argument, its type, and its default."""
    if not _too_many(thing):
        return
    if not thing.__init__.__module__.startswith("aiecof"):
        named = next(base for base in thing.__mro__ if "__init__" in vars(base))
        yield from ("", f"Its arguments are those of ``{named.__module__}.{named.__qualname__}``.")
        return
    fields = getattr(thing, "__dataclass_fields__", {})
    yield from (
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - Argument",
        "     - Type or choices",
        "     - Default",
    )
    for entry in inspect.signature(thing).parameters.values():
        choices = fields[entry.name].metadata.get("candidates") if entry.name in fields else None
        kind = re.sub(r"[\w.]+\.(?=\w)", "", inspect.formatannotation(entry.annotation)).strip("'")
        yield f"   * - ``{str(entry).partition(entry.name)[0]}{entry.name}``"
        yield "     - " + (", ".join(f"``{choice}``" for choice in choices) if choices else f"``{kind}``")
        yield "     - " + ("" if entry.default is entry.empty else f"``{_default(entry)}``")


def _too_many(thing: object) -> list[str]:
    """The arguments of a class, with their defaults, if they make a long signature."""
    if not inspect.isclass(thing) or issubclass(thing, Exception):
        return []
    entries = inspect.signature(thing).parameters.values()
    shown = [str(entry.replace(annotation=entry.empty)) for entry in entries]
    return shown if len(", ".join(shown)) > LONGEST else []


def _default(entry: inspect.Parameter) -> str:
    return re.sub("<.*>", "...", str(entry.replace(annotation=entry.empty)).partition("=")[2])


def front_door() -> str:
    """Markdown table of what `import aiecof` offers, and where it lives."""
    rows = [(name, aiecof._PLACES[name]) for name in aiecof.__all__]
    lines = [f"| `aiecof.{name}` | {{py:obj}}`~{_home(name, module)}` |" for name, module in rows]
    return "\n".join(["| Name | Lives in |", "|---|---|", *lines])


def _home(name: str, module: str) -> str:
    """Where a name is defined, behind the doors of folders."""
    return f"{getattr(aiecof, name).__module__}.{name}"


def commands() -> str:
    """Markdown of every `aiecof` command: what it does, how it is called, its arguments and options."""
    from typer.main import get_command

    from aiecof.cli.app import app

    return "\n".join(_commands("aiecof", get_command(app)))


def _commands(called: str, command) -> Iterator[str]:
    import click

    context = click.Context(command, info_name=called.rpartition(" ")[2])
    children = getattr(command, "commands", {})
    if children:
        for name, child in children.items():
            yield from _commands(f"{called} {name}", child)
        return
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"## `{called}`\n\n{inspect.cleandoc(command.help or '')}\n\n```sh\n{called} {pieces}\n```\n"
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    if shown:
        yield "| Option | What it is | Default |\n|---|---|---|"
        for parameter in shown:
            names = ", ".join(f"`{name}`" for name in parameter.opts) if parameter.param_type_name == "option" else ""
            names = names or f"`{parameter.name.upper()}`"
            text = (getattr(parameter, "help", "") or "").replace("|", "\\|").replace("\n", " ")
            default = parameter.default
            plain = (
                default is None or callable(default) or default in ((), [], False, "") or "Sentinel" in repr(default)
            )
            yield f"| {names} | {text} | {'' if plain else f'`{default}`'} |"
        yield ""
