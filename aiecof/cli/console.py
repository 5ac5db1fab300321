"""What all `aiecof` commands share: reading numbers, printing tables and JSON, one line for what is wrong."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer.core import TyperGroup

from aiecof.checks import InvalidInput, check_choice, check_integer, did_you_mean
from aiecof.doors import missing_extra
from aiecof.processes import ended_as_interrupted

GO_ON = ("run", "trial", "train", "tune", "search", "compare")
"""Commands that find what is finished when they are called again."""


class OneLineErrors(TyperGroup):
    """A group of commands that says in one line what is wrong with its input."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:
        if not args[0].startswith("-"):
            check_choice("command", args[0], tuple(self.commands))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if not args:
            raise InvalidInput(ctx.info_name, "nothing after it", "one of " + ", ".join(self.commands))
        return super().parse_args(ctx, args)

    def main(self, args: Any = None, *rest: Any, **options: Any) -> None:
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            with ended_as_interrupted():
                _check_streams()
                code = super().main(args, *rest, **options | {"standalone_mode": False})
                sys.stdout.flush()
        except BrokenPipeError:
            code = _drop_output(1)
        except OSError as error:
            place = error.filename or "standard output"
            code = _drop_output(_fail(f"{place}: got {error.strerror!r}, allowed: a place that can be read or written"))
        except (InvalidInput, _Refused) as error:
            code = _fail(str(error))
        except typer.TyperException as error:
            code = _fail(str(_refusal(error, args)))
        except ModuleNotFoundError as error:
            if not (hint := missing_extra(error)):
                raise
            code = _fail(hint)
        except MemoryError as error:
            code = _fail(f"size: got {error}, allowed: what fits in memory")
        if code == 130 and args[0] in GO_ON:
            print("interrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(code or 0)


def _refusal(error: typer.TyperException, args: list[str]) -> InvalidInput:
    """What is wrong with a command line, in the words of all other refusals."""
    ctx = getattr(error, "ctx", None)
    if ctx is not None and (option := getattr(error, "option_name", None)) and "No such option" in str(error):
        names = {name for param in ctx.command.params for name in param.opts} | {"--help"}
        known = sorted(name for name in names if name.startswith("-"))
        return InvalidInput("option", option, f"{', '.join(known)}{did_you_mean(option, known)}")
    return InvalidInput("command line", " ".join(args), f"what --help lists ({error})")


def _check_streams() -> None:
    """There is an output; what a terminal cannot show becomes a question mark; a closed standard error says nothing."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if sys.stdout is None:
        raise InvalidInput("standard output", "a closed one", "one that is open")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def _drop_output(code: int) -> int:
    """What is left to write has nowhere to go: the interpreter is not to try it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    return code


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class _Refused(Exception):
    """Carries an `InvalidInput` past the parser of an option, which takes every `ValueError` for its own."""


def number(name: str, low: int, text: str, high: int = 10**6) -> Any:
    """An option whose value is a whole number from `low` to `high`; `text` is its help."""

    def integer(value: str) -> int:
        try:
            return check_integer(name, int(value), low, high)
        except ValueError:
            raise _Refused(f"{InvalidInput(name, value, f'a whole number >= {low} and <= {high}')}") from None

    return typer.Option(parser=integer, metavar="INTEGER", help=text)


def _finite(content: Any) -> Any:
    """The same with null for every number that JSON does not know."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return None if isinstance(content, float) and not math.isfinite(content) else content


def print_json(content: Any) -> None:
    print(json.dumps(_finite(content), indent=2, allow_nan=False))


def _widths(cells: list[tuple[str, ...]], room: int) -> list[int]:
    """Widths of columns that break no word, and no line where the room allows it; none where it is too narrow."""
    least = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in cells]
    whole = [max(cell_len(line) for cell in column for line in cell.splitlines() or [""]) for column in cells]
    wanted = [max(all_of_it - low, 0) for low, all_of_it in zip(least, whole, strict=True)]
    share = min(1.0, (room - sum(least)) / max(sum(wanted), 1))
    return [low + int(share * more) for low, more in zip(least, wanted, strict=True)] if share >= 0.0 else []


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table, on a terminal that is too narrow for it as a list of its rows."""
    columns, rows = list(columns), [[str(cell) for cell in row] for row in rows]
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if narrow else 160, markup=False, highlight=False)
    table = Table(*columns, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    widths = _widths(list(zip(columns, *rows, strict=True)), console.width - 3 * len(columns) - 1)
    if narrow and widths:
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
    elif narrow:
        table = Table("", "", box=None, show_header=False)
        for row in rows:
            for heading, cell in zip(columns, row, strict=True):
                table.add_row(heading, cell)
            table.add_row("", "")
        for column in table.columns:
            column.overflow = "fold"
    console.print(title, table, sep="\n")


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar on the terminal; gives a function to call with what is done, and the total if it was not known."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=total)

        def update(done: int, total: int | None = None) -> None:
            progress.update(task, completed=done, **({} if total is None else {"total": total}))

        yield update
