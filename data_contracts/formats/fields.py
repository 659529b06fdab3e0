"""The fields of a row: which were read, and what is to be said of the others.

A reader takes the fields it knows from a `Fields`; whatever is left when it closes is counted as
unread. So no list of harmless columns exists that could miss one that matters.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

# A name that says what a field is. One with many digits, or with signs that names do not have, may
# be personal data itself.
IDENTIFIER = re.compile(r"(?!(?:.*\d){3})[A-Za-z_$][\w.-]{0,63}", re.ASCII)
OTHER = "other"
# Distinct names that are told apart; rows whose keys are data have any number.
MOST_NAMES = 60


class Readings(BaseModel):
    """What rows were read as, and what of them is not learnt or not even kept. Counts and the
    names of fields, never a value."""

    model_config = ConfigDict(frozen=True)

    formats: dict[str, int] = {}
    unread: dict[str, int] = {}
    unknown: dict[str, int] = {}
    unlearnt: dict[str, int] = {}
    labels: dict[str, int] = {}

    @classmethod
    def total(cls, readings: Iterable["Readings"]) -> Self:
        sums: dict[str, Counter[str]] = {name: Counter() for name in cls.model_fields}
        for one in readings:
            for name, counts in sums.items():
                counts.update(getattr(one, name))
        return cls.model_validate({name: _commonest(counts) for name, counts in sums.items()})

    def renamed(self, hidden: Iterable[str]) -> Self:
        """With `other` in the place of the field names in `hidden`."""
        names = set(hidden)
        counts = Counter[str]()
        for name, count in self.unread.items():
            counts[OTHER if name in names else name] += count
        return self.model_copy(update={"unread": dict(counts)})


def _commonest(counts: Counter[str]) -> dict[str, int]:
    ranked = counts.most_common()
    kept = Counter(dict(ranked[:MOST_NAMES]))
    if left := sum(count for _, count in ranked[MOST_NAMES:]):
        kept[OTHER] += left
    return dict(kept)


class Notes:
    """Collects what is to be said of one row while it is read."""

    def __init__(self) -> None:
        self.unread: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.unlearnt: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()

    def readings(self, format_name: str) -> Readings:
        return Readings(
            formats={format_name: 1},
            unread=dict(self.unread),
            unknown=dict(self.unknown),
            unlearnt=dict(self.unlearnt),
            labels=dict(self.labels),
        )


class Fields:
    """An object of a row, as its reader goes through it.

    Args:
        content: the object.
        notes: where unread fields are counted.
        place: what stands before a field's name in what is said of it: `messages.`, for instance.
    """

    def __init__(self, content: Mapping[str, Any], notes: Notes, place: str = "") -> None:
        self.content, self.notes, self.place = content, notes, place
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return not is_empty(self.content.get(name))

    def peek(self, name: str) -> Any:
        """The value of a field, which does not count as read."""
        return self.content.get(name)

    def adopt(self, name: str, value: Any) -> None:
        """A field that stands deeper in the row and means the row."""
        if value is not None and name not in self:
            self.content = {**self.content, name: value}

    def first(self, names: Iterable[str]) -> str | None:
        """The first of the names that has a value."""
        return next((name for name in names if name in self), None)

    def take(self, *names: str) -> Any:
        """The value of the first of the fields that has one; it counts as read.

        None if there is none, but an empty text, list or object as it is.
        """
        name = self.first(names) or next(
            (name for name in names if self.content.get(name) is not None), None
        )
        if name is None:
            return None
        self._taken.add(name)
        return self.content[name]

    def unknown(self, name: str) -> None:
        """The optional field `name` says something that cannot be read."""
        self.notes.unknown[f"{self.place}{name}"] += 1

    def close(self) -> None:
        """Count what has a value and nobody took."""
        for name, value in self.content.items():
            if name not in self._taken and not is_empty(value):
                self.notes.unread[f"{self.place}{safe_name(name)}"] += 1


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, pandas' NaN, or an empty text, list or object."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return hasattr(value, "__len__") and len(value) == 0


def is_list(value: Any) -> bool:
    """Whether it is a JSON list; Parquet gives other sequences too."""
    return hasattr(value, "__iter__") and not isinstance(value, str | bytes | Mapping)


def safe_name(name: object) -> str:
    """The name of a field as it may be shown: `other` unless it has the form of a name."""
    return name if isinstance(name, str) and IDENTIFIER.fullmatch(name) else OTHER
