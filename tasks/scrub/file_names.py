"""Names of source files, without the personal data in them.

`john.smith@example.com.jsonl` is somebody's data as much as what the file holds, and it would
stand in rows, in quarantine, in slices of an evaluation and in messages. Two files may share the
name that is left.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from data_contracts.errors import RowRejected
from data_contracts.findings import Finding, merge
from data_contracts.policy import ScrubPolicy
from tasks.scrub.replace import Replacer

# What Evergreen itself calls bundled data and a shard of a snapshot.
OURS = re.compile(
    r"chitchat|pii|"
    r"(scrub|validate|train|holdout|canaries|window|replay-old|replay-new|regression|general)"
    r"-[0-9a-f]{16}/part-\d{5,}\.parquet"
)
# Hours of logs and months of exports; without separators ten digits may be a telephone number.
DATE = re.compile(
    r"(?<!\d)20\d\d(([-_.]?)(0[1-9]|1[0-2])(\2(0[1-9]|[12]\d|3[01]))?"
    r"([-_T]([01]\d|2[0-4])([-_]?[0-5]\d){0,2}Z?)?)?(?!\d)"
)
ENDING = re.compile(r"(\.(jsonl|ndjson|json|parquet|csv|gz|log|txt))+(\.\d{1,3})?$", re.IGNORECASE)
NAMELESS = "file"


def texts_of_name(name: str) -> Iterator[str]:
    """All that `scrub_file_name` looks for personal data in."""
    if not OURS.fullmatch(name):
        for stem, _ in _segments(name):
            yield from _readings(stem)


def scrub_file_name(
    name: str, find: Callable[[str], list[Finding]], policy: ScrubPolicy, key: bytes | None
) -> str:
    """The name (or path) with stand-ins for what is found; `file` if it cannot be searched."""
    if OURS.fullmatch(name):
        return name
    segments = _segments(name)
    try:
        found = [_found(stem, find) for stem, _ in segments]
    except RowRejected:
        return NAMELESS
    replacer = Replacer(policy, [stem for stem, _ in segments], key)
    return "/".join(
        replacer.replace(stem, findings) + ending
        for (stem, ending), findings in zip(segments, found, strict=True)
    )


def _segments(name: str) -> list[tuple[str, str]]:
    """(stem, ending) of each part of a path."""
    parts = []
    for part in name.split("/"):
        ending = ENDING.search(part)
        at = ending.start() if ending else len(part)
        parts.append((part[:at], part[at:]))
    return parts


def _readings(stem: str) -> Sequence[str]:
    """A stem as it is, and with spaces for the underscores that join words in names of files."""
    return [text for text in dict.fromkeys((stem, stem.replace("_", " "))) if text]


def _found(stem: str, find: Callable[[str], list[Finding]]) -> list[Finding]:
    dates = [date.span() for date in DATE.finditer(stem)]
    return merge(
        [
            finding
            for text in _readings(stem)
            for finding in find(text)
            if not any(start <= finding.start and finding.end <= end for start, end in dates)
        ]
    )
