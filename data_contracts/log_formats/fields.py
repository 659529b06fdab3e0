"""Fields of log records, which hold objects within objects, some of them as JSON text."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from data_contracts.formats.fields import Fields, Notes, safe_name
from data_contracts.lenient_json import parse_json

# These say what kind of object one is, and nothing of the conversation.
KINDS = ("object", "type", "index")


class LogFields(Fields):
    """An object of a log record. Closing it closes the objects within that were read."""

    def __init__(self, content: Mapping[str, Any], notes: Notes, place: str = "") -> None:
        super().__init__(content, notes, place)
        self._within: list[Self] = []

    def __bool__(self) -> bool:
        return bool(self.content)

    def names(self) -> Iterator[str]:
        """The names of all fields, which do not count as read."""
        return (str(name) for name in self.content)

    def inner(self, *names: str) -> Self:
        """The first of these fields that has a value, as an object; an empty one if it is none.

        JSON text of an object is taken for the object.
        """
        name = self.first(names)
        if name is None:
            return type(self)({}, self.notes)
        value = self.take(name)
        if isinstance(value, str):
            value = _object_of(value)
        if isinstance(value, Mapping):
            return self.within(value, name)
        self.unknown(name)
        return type(self)({}, self.notes)

    def within(self, value: Mapping[str, Any], name: str) -> Self:
        """An object that stands below this one."""
        inner = type(self)(value, self.notes, f"{self.place}{name}.")
        self._within.append(inner)
        return inner

    def drop(self, name: str) -> None:
        """The objects below this field were no objects after all, but text."""
        below = f"{self.place}{name}."
        self._within = [inner for inner in self._within if inner.place != below]

    def note(self, kind: object) -> None:
        """Count something below this object that has no place in a conversation."""
        self.notes.unread[f"{self.place}{safe_name(kind)}"] += 1

    def close(self) -> None:
        for kind in KINDS:
            self.take(kind)
        super().close()
        for inner in self._within:
            inner.close()


def _object_of(text: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return None
