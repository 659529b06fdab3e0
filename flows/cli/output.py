"""How commands show results: a table for people, JSON for programs.

All that is printed goes through here, and is `printable`: names of files, answers of models and
lines of logs are other people's text, and neither steer the terminal nor are taken for markup.
"""

import json
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from data_contracts.errors import ConfigError
from data_contracts.printable import one_line, printable
from data_contracts.workspace import located

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class _Printable:
    """A renderable whose text is printable; what rich itself does to the terminal stays."""

    def __init__(self, shown: ConsoleRenderable) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in console.render(self._shown, options):
            yield part if part.control else Segment(printable(part.text), part.style)


class _OnlyPrintable(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Printable(shown) for shown in renderables]


# Markup is off: `bold` and styles are said in code, so that no text of others is read as such.
console = Console(highlight=False, soft_wrap=False, markup=False, emoji=False)
console.push_render_hook(_OnlyPrintable())


def bold(text: str) -> Text:
    return Text(text, "bold")


def show_error(message: str) -> None:
    """One line on standard error."""
    print(f"error: {one_line(message)}", file=sys.stderr)


def show_note(message: str) -> None:
    """One line of information on standard error."""
    print(f"note: {one_line(message)}", file=sys.stderr)


def show_json(value: Any) -> None:
    text = json.dumps(_with_places(value), indent=2, default=str)
    # All but ASCII is escaped, and of that DEL is the one control character that is not.
    print(text.replace("\x7f", "\\u007f"))


def _with_places(value: Any) -> Any:
    """The value with the places that its models give relative to the home as they are now."""
    if isinstance(value, str):
        try:
            return located(value)
        except ValueError:  # a text that only looks like one
            return value
    if isinstance(value, dict):
        return {key: _with_places(part) for key, part in value.items()}
    return [_with_places(part) for part in value] if isinstance(value, list | tuple) else value


def show_table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of equal keys as a table; says so if there are none."""
    if not rows:
        console.print(bold(title), "none", sep=": ")
        return
    table = Table(
        title=printable(title), title_justify="left", title_style="bold", header_style="bold"
    )
    for index, name in enumerate(rows[0]):
        numeric = isinstance(rows[0][name], int | float)
        table.add_column(
            name, justify="right" if numeric else "left", overflow="fold", no_wrap=index == 0
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


# Files that are named one by one.
NAMED = 20


def show_passed_over(files: Mapping[str, str]) -> None:
    """Files that were not read, and why."""
    if not files:
        return
    rows = [{"file": file, "why": why} for file, why in sorted(files.items())]
    more = f", {NAMED} of {len(rows)}" if len(rows) > NAMED else ""
    show_table(f"Files passed over{more}", rows[:NAMED])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))


def make_errors_printable() -> None:
    """For what Python itself writes to standard error: tracebacks and warnings."""

    def show(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        lines = traceback.format_exception(kind, error, at)
        print(printable("".join(lines)), end="", file=sys.stderr)

    def form(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> str:
        return f"warning: {category.__name__}: {one_line(str(message))}\n"

    sys.excepthook = show
    warnings.formatwarning = form


def progress(*, quiet: bool) -> Progress:
    """Bars with the time left that go away when the work is done; none at all if `quiet`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(quiet=True) if quiet else console,
        transient=True,
    )


def advance(bar: Progress, line: TaskID, done: int, of: int) -> None:
    """Show that a line of the bar is at `done` of `of`."""
    bar.update(line, completed=done, total=of, visible=True)


def require_writable(file: Path, endings: Sequence[str] = ()) -> None:
    """Checked before any work is done.

    Raises:
        ConfigError: its folder does not exist, or its ending is none of those.
    """
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {file.absolute().parent}", "create it first")
    if endings and file.suffix not in endings:
        raise ConfigError(f"{file} must end in {' or '.join(endings)}", "rename it")
