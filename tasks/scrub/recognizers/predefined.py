"""Presidio's own recognisers of what ours do not look for, mostly numbers of other countries."""

import inspect
import re
from collections.abc import Collection
from typing import Any

from presidio_analyzer import (
    EntityRecognizer,
    LocalRecognizer,
    PatternRecognizer,
    RecognizerResult,
    predefined_recognizers,
)

from data_contracts.policy import ScrubPolicy
from tasks.scrub.recognizers.base import DIGIT, any_word, is_near

# All others of the predefined have a digit in every match.
GATES: dict[str, re.Pattern[str] | None] = {
    "IT_FISCAL_CODE": None,
    "MEDICAL_LICENSE": re.compile(r"\d{7}"),
}
# Presidio's forms that take quadratic time, or match any ten characters.
LEFT_OUT = {"InPanRecognizer": ("PAN (Low)",)}


class NearContext(LocalRecognizer):  # type: ignore[misc]
    """A predefined recogniser behind a gate, its context words looked for without an NLP engine.

    What it finds inside a longer word or number is none.
    """

    SCORE = 0.85

    def __init__(self, inner: PatternRecognizer) -> None:
        super().__init__(
            supported_entities=inner.supported_entities,
            name=inner.name,
            supported_language=inner.supported_language,
        )
        self._inner = inner
        self._near = any_word(tuple(inner.context)) if inner.context else None
        self.gate = GATES.get(inner.supported_entities[0], DIGIT)

    def load(self) -> None:
        """Nothing is."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        results: list[RecognizerResult] = [
            result
            for result in self._inner.analyze(text, entities, nlp_artifacts)
            if not text[max(result.start - 1, 0) : result.start].isalnum()
            and not text[result.end : result.end + 1].isalnum()
        ]
        for result in results:
            if is_near(self._near, text, result.start, result.end):
                result.score = max(result.score, self.SCORE)
        return results


def predefined(policy: ScrubPolicy, without: Collection[str]) -> list[EntityRecognizer]:
    """Those for the policy's entities, but `without`, that are of its countries or of none."""
    found = []
    for name, kind in inspect.getmembers(predefined_recognizers, _is_pattern_recognizer):
        if kind.COUNTRY_CODE not in (None, *policy.countries):
            continue
        recognizer = kind(supported_language="en")
        recognizer.patterns = [
            pattern for pattern in recognizer.patterns if pattern.name not in LEFT_OUT.get(name, ())
        ]
        (entity,) = recognizer.supported_entities
        if entity in policy.entities and entity not in without:
            found.append(NearContext(recognizer))
    return found


def _is_pattern_recognizer(member: Any) -> bool:
    return inspect.isclass(member) and issubclass(member, PatternRecognizer)
