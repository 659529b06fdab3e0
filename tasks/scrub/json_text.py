"""Personal data inside JSON: values are searched and replaced, the structure stays.

The values are searched together, each behind its name, as recognisers go by the words around. In
the JSON text only the values that change are written anew, so that everything else (spaces, the
form of numbers, the order of fields) stays as the model wrote it.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from data_contracts.findings import Finding
from data_contracts.formats.fields import IDENTIFIER

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}\[\]:,]', re.DOTALL)
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
WORD = re.compile(r"\w")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# What a function's schema says of its parameters, in words of JSON schema.
SCHEMA_WORDS = frozenset({"type", "format", "name", "$ref", "$id", "$schema", "required", "role"})
# Below these stand examples of values, not schema.
VALUES_OF_SCHEMA = frozenset({"default", "enum", "const", "example", "examples"})


@dataclass(frozen=True)
class Value:
    """One value: where it stands in the JSON text, [start, end), and where in what is searched."""

    start: int
    end: int
    text: str
    at: int


@dataclass(frozen=True)
class JsonText:
    """JSON whose values may be replaced. `searched` holds them all, a line each."""

    text: str
    searched: str
    values: tuple[Value, ...]

    def replaced(self, replace: Callable[[Value], str]) -> str:
        """The JSON with other values; those that stay the same are not touched."""
        parts, at = [], 0
        for value in self.values:
            new = replace(value)
            if new != value.text:
                parts += [self.text[at : value.start], _written(new, self.text[value.start])]
                at = value.end
        return "".join([*parts, self.text[at:]])


def json_values(text: str, *, schema: bool = False) -> JsonText | None:
    """The values of an object or array in JSON; None if the text is neither.

    Args:
        text: may hold anything.
        schema: it offers functions: their names and the words of JSON schema are structure.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    values: list[Value] = []
    lines: list[str] = []
    length = 0
    for path, start, end in _scalars(text):
        raw = text[start:end]
        is_text = raw.startswith('"')
        value = LONE_SURROGATE.sub("\ufffd", json.loads(raw)) if is_text else raw
        if is_text and schema and _is_structure(path, value):
            continue
        name = _words(path[-1]) + ": " if path and path[-1] else ""
        values.append(Value(start, end, value, length + len(name)))
        lines.append(f"{name}{value}\n")
        length += len(lines[-1])
    return JsonText(text, "".join(lines), tuple(values))


def within(findings: Sequence[Finding], value: Value) -> list[Finding]:
    """The parts of findings that lie in a value, by their places in it."""
    end = value.at + len(value.text)
    found = []
    for one in findings:
        low, high = max(one.start, value.at) - value.at, min(one.end, end) - value.at
        if low < high and WORD.search(value.text, low, high):
            found.append(Finding(low, high, one.entity, one.score))
    return found


def _scalars(text: str) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """(names of the fields it is in, start, end) of every text and number, and of every name of a
    field that does not have the form of one: where keys are data, they are values too."""
    path: list[str] = []
    opened: list[str] = []
    tokens = list(TOKEN.finditer(text))
    for index, token in enumerate(tokens):
        sign = token[0]
        if sign in "{[":
            opened.append(sign)
            if sign == "{":
                path.append("")
        elif sign in "}]":
            opened.pop()
            if sign == "}":
                path.pop()
        elif sign in ":,":
            continue
        elif opened[-1] == "{" and _is_name(tokens, index):
            name = json.loads(sign)
            path[-1] = name if IDENTIFIER.fullmatch(name) else ""
            if not path[-1]:
                yield tuple(path), token.start(), token.end()
        else:
            yield tuple(path), token.start(), token.end()


def _is_name(tokens: Sequence["re.Match[str]"], index: int) -> bool:
    return index + 1 < len(tokens) and tokens[index + 1][0] == ":"


def _is_structure(path: tuple[str, ...], value: str) -> bool:
    if VALUES_OF_SCHEMA & set(path) or not path:
        return False
    return path[-1] in SCHEMA_WORDS and IDENTIFIER.fullmatch(value) is not None


def _words(name: str) -> str:
    """A field's name as words: a recogniser takes `user_id` for a user's."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_.$-]+", " ", name).strip()


def _written(value: str, first: str) -> str:
    """A new value in JSON: as a number if it was one and is one."""
    if first != '"' and NUMBER.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
