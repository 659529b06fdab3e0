"""Finds personal data: the policy's recognisers and the learned detector over many texts.

Presidio's recognisers are called one by one: its engine would run spaCy for each text, which
takes three quarters of the time and finds less than the detector (`bench/README.md`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from data_contracts.errors import ModelError
from data_contracts.findings import Finding, merge
from data_contracts.policy import PLACEHOLDER, ScrubPolicy
from tasks.scrub.across import CHECKED
from tasks.scrub.forms import formed, parts, trimmed
from tasks.scrub.languages import language_of
from tasks.scrub.learned import values
from tasks.scrub.ordinary_words import OrdinaryWords
from tasks.scrub.recognizers import recognizers
from tasks.scrub.views import View, hidden, view

# Between two findings of a place that make one address: at most a comma and a break.
JOINT = re.compile(r"[,\s]{1,4}")
WORD = re.compile(r"\w")


class Finder:
    """Everything a policy looks for. Loads its models once, on creation.

    Args:
        policy: what counts.
        detector: the folder of the learned detector; None if the policy does without.

    Raises:
        ModelError: there is no whole detector in the folder.
        ConfigError: the policy names a spaCy model that is not installed.
    """

    def __init__(self, policy: ScrubPolicy, detector: Path | None) -> None:
        self.policy = policy
        self._recognizers = recognizers(policy)
        self._allowed = {word.casefold() for word in policy.allow_list}
        self._denied = [
            (entity, re.compile("|".join(rf"(?<!\w){re.escape(w)}(?!\w)" for w in words), re.I))
            for entity, words in policy.deny_list.items()
            if words
        ]
        self._detector: Any = None
        self._ordinary = OrdinaryWords({})
        if detector is not None:
            from models.detector import Detector  # loads torch

            self._detector = Detector(detector)
            self._ordinary = ordinary_words(detector)
        self._taught = policy.languages if detector is not None else ()
        self._models: dict[str, Any] = {}
        if policy.models:
            from tasks.scrub.names import SpacyNames  # loads spaCy

            self._models = {code: SpacyNames(name) for code, name in policy.models.items()}

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings of each text: left to right, none overlapping.

        Overlapping detections become one finding over their union, under the name of the
        surest (then longest) of them, so that no part of any stays visible. What stands in the
        place of personal data already is nobody's data and stays as it is.
        """
        views = [view(text) for text in texts]
        learned = self._learned([one.text for one in views])
        return [
            self._settled(one, self._by_pattern(one.text), found)
            for one, found in zip(views, learned, strict=True)
        ]

    def _hidden(self, text: str) -> Iterable[Finding]:
        """What stands in a text in a hidden form, by its places there."""
        for one in hidden(text):
            for found in self._by_pattern(one.text):
                if one.kind == "encoded" or found.entity in CHECKED:
                    for whole in self._in_form(found, one.text):
                        if one.reveals(whole.start, whole.end):
                            yield one.finding(whole)

    def _learned(self, texts: Sequence[str]) -> list[list[Finding]]:
        """What the detector or a language's model finds in each text; nothing in one of a language
        that neither knows."""
        knows: dict[int, Any] = {}
        for number, text in enumerate(texts if self._default else ()):
            code = language_of(text, self._taught)
            if model := self._models.get(code) or (None if code else self._default):
                knows[number] = model
        found: list[list[Finding]] = [[] for _ in texts]
        for model in dict.fromkeys(knows.values()):
            numbers = [number for number, one in knows.items() if one is model]
            for number, one in zip(
                numbers, model.find([texts[number] for number in numbers]), strict=True
            ):
                found[number] = one
        return found

    @property
    def _default(self) -> Any:
        """Who is asked where a text may be in any covered language."""
        return self._detector or next(iter(self._models.values()), None)

    def _by_pattern(self, text: str) -> Iterable[Finding]:
        opened: dict[Any, bool] = {None: True}  # many recognisers have the same gate
        for recognizer in self._recognizers:
            gate = recognizer.gate
            if gate not in opened:
                opened[gate] = gate.search(text) is not None
            if opened[gate]:
                for result in recognizer.analyze(text, recognizer.supported_entities, None):
                    yield Finding(result.start, result.end, result.entity_type, result.score)

    def _by_name(self, text: str) -> Iterable[Finding]:
        """Words of the policy's deny list, whatever they look like."""
        for entity, words in self._denied:
            for match in words.finditer(text):
                yield Finding(match.start(), match.end(), entity)

    def _in_form(self, found: Finding, text: str) -> Iterable[Finding]:
        """What of a finding that is sure enough has the form of its entity."""
        rules = self.policy.entities
        if found.entity not in rules or found.score < rules[found.entity].threshold:
            return
        for part in parts(found, text):
            if self.policy.strict:
                start, end = trimmed(part, text)
                if WORD.search(text, start, end):
                    yield replace(part, start=start, end=end)
            elif (whole := formed(part, text)) is not None:
                yield whole

    def _of_learned(self, found: Sequence[Finding], text: str) -> Iterable[Finding]:
        """The values that the detector's findings make up, of those that it is sure enough of."""
        rules = self.policy.entities
        sure = [o for o in found if o.entity in rules and o.score >= rules[o.entity].threshold]
        if self.policy.strict:
            return [whole for one in sure for whole in self._in_form(one, text)]
        return [
            one
            for one in values(sure, text)
            if one.entity in rules and not self._ordinary.hold(one, text)
        ]

    def _settled(
        self, seen: View, by_pattern: Iterable[Finding], learned: Sequence[Finding]
    ) -> list[Finding]:
        text = seen.original
        in_form = [one for found in by_pattern for one in self._in_form(found, seen.text)]
        in_form += self._of_learned(learned, seen.text)
        sure = [seen.finding(found) for found in chain(in_form, self._by_name(seen.text))]
        sure += self._hidden(text)
        if self._allowed:
            sure = [o for o in sure if text[o.start : o.end].casefold() not in self._allowed]
        if not sure:
            return []
        standing = [found.span() for found in PLACEHOLDER.finditer(text)]
        for start, end in standing:
            sure = [part for one in sure for part in _without(one, start, end, text)]
        return _addresses_joined(merge(sure), text)


def ordinary_words(detector: Path) -> OrdinaryWords:
    """Raises ModelError: the folder of the detector is not whole."""
    try:
        return OrdinaryWords.read(detector)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"there is no whole detector of personal data in {detector}",
            "build it with `evergreen detector`",
        ) from error


def _without(found: Finding, start: int, end: int, text: str) -> list[Finding]:
    """The parts of a finding outside [start, end) that still hold a word."""
    if found.end <= start or end <= found.start:
        return [found]
    parts = ((found.start, min(found.end, start)), (max(found.start, end), found.end))
    return [Finding(a, b, found.entity, found.score) for a, b in parts if WORD.search(text, a, b)]


def _addresses_joined(found: Sequence[Finding], text: str) -> list[Finding]:
    """Street, postcode and town in a row are one place; two towns in a row are two."""
    joined: list[Finding] = []
    for one in found:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.entity == one.entity == "LOCATION"
            and JOINT.fullmatch(text, before.end, one.start)
            and any(character.isdigit() for character in text[before.start : one.end])
        ):
            score = max(before.score, one.score)
            joined[-1] = Finding(before.start, one.end, one.entity, score)
        else:
            joined.append(one)
    return joined
