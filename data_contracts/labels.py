"""Names of kinds of personal data, as a source labels them.

A label reaches reports, artifacts and the terminal without a scrub, so it must not be free text.
One that has not the form of a name costs the row; of the others, which may be `JOHN_SMITH`, only
known names are told, and the rest are counted as OTHER.
"""

import re
from collections.abc import Container
from functools import cache
from importlib import resources

import yaml

FORM = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*")
MAX_CHARACTERS = 64
OTHER = "OTHER"
# Before the names of tokens in the tagging schemes IOB, BILOU and IOBES.
SCHEME = re.compile(r"[BILUES]_(?=.)")


def is_label(entity: str) -> bool:
    """Whether it has the form of a name, whatever it names."""
    return len(entity) <= MAX_CHARACTERS and FORM.fullmatch(entity) is not None


def label_name(entity: str, others: Container[str] = ()) -> str:
    """What a report calls a label: a known name in capitals, one of `others`, or OTHER."""
    name = entity.upper().replace("-", "_")
    names = (name, SCHEME.sub("", name))
    return next((known for known in names if known in _known() or known in others), OTHER)


@cache
def _known() -> frozenset[str]:
    file = resources.files("data_contracts").joinpath("labels.yaml")
    return frozenset(yaml.safe_load(file.read_text("utf-8")))
