"""Tables of measurements, prices and results as Markdown, CSV, TSV, aligned text and HTML."""

import random
from collections.abc import Callable, Iterator

from bench.pii.kinds.grammar import grammar
from bench.pii.kinds.row import PACKAGES, Row, alternating, files, read, shuffled

FROM_ONE_FILE = 12
ASKED = (
    "{table}", "Which row stands out?\n\n{table}", "Sort this by the second column:\n{table}",
    "```\n{table}\n```", "Here are the results:\n\n{table}\n\nWhat do you conclude?",
)  # fmt: skip
Table = list[list[str]]


def rows(draw: random.Random) -> Iterator[Row]:
    tables = alternating(draw, _generated(draw), _generated(draw), _generated(draw), _real(draw))
    for table in tables:
        written = draw.choice(WRITERS)(table)
        yield Row((draw.choice(ASKED).format(table=written),))


def _generated(draw: random.Random) -> Iterator[Table]:
    """A template is a heading, and a line that is filled for each row."""
    columns = grammar("tables")
    while True:
        head, line = draw.choice(columns.templates).splitlines()
        lines = [columns.fill(line, draw) for _ in range(draw.randint(2, 9))]
        yield [one.split(" ; ") for one in (head, *lines)]


def _real(draw: random.Random) -> Iterator[Table]:
    """Consecutive lines of the CSV files of numerical packages."""
    for path in shuffled(files((PACKAGES,), "*.csv"), draw):
        lines = [line.split(",")[:8] for line in read(path).splitlines()]
        for _ in range(FROM_ONE_FILE):
            start = draw.randrange(max(1, len(lines) - 8))
            yield lines[start : start + draw.randint(3, 8)]


def _markdown(table: Table) -> str:
    head, *lines = (f"| {' | '.join(line)} |" for line in table)
    return "\n".join([head, "|---" * len(table[0]) + "|", *lines])


def _separated(by: str) -> Callable[[Table], str]:
    return lambda table: "\n".join(by.join(line) for line in table)


def _aligned(table: Table) -> str:
    return "\n".join("  ".join(f"{cell:<14}" for cell in line).rstrip() for line in table)


def _html(table: Table) -> str:
    lines = ("".join(f"<td>{cell}</td>" for cell in line) for line in table)
    return "<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>"


WRITERS = (
    _markdown,
    _markdown,
    _separated(","),
    _separated("\t"),
    _separated(";"),
    _aligned,
    _html,
)
