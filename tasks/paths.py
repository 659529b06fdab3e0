"""Paths in messages and logs, which people see who do not see the data."""

from collections.abc import Mapping
from functools import cache, lru_cache

from data_contracts.errors import RowRejected
from data_contracts.findings import Finding
from data_contracts.policy import ScrubPolicy, load_policy

# With fewer digits, and no @, patterns find nothing.
TELLING_DIGITS = 4


@lru_cache(maxsize=1024)
def shown(path: str) -> str:
    """A path without the personal data that patterns find in it.

    There may be no detector where something went wrong, and no key: placeholders stand in it.
    """
    if "@" not in path and sum(map(str.isdigit, path)) < TELLING_DIGITS:
        return path
    from tasks.scrub.file_names import scrub_file_name  # loads what few messages need

    return scrub_file_name(path, _by_pattern, _patterns(), None)


def shown_all(told: Mapping[str, str]) -> dict[str, str]:
    """{path: what is said of it} with paths as `shown`; those that look the same are numbered."""
    distinct: dict[str, str] = {}
    for path, said in told.items():
        plain = name = shown(path)
        number = 2
        while name in distinct:
            name, number = f"{plain} ({number})", number + 1
        distinct[name] = said
    return distinct


@cache
def _patterns() -> ScrubPolicy:
    return load_policy().model_copy(update={"detector": False})


def _by_pattern(text: str) -> list[Finding]:
    from tasks.scrub.workers import find

    (found,) = find(_patterns().model_dump_json(), None, [text])
    if isinstance(found, str):
        raise RowRejected(found)
    return found
