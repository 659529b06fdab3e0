"""What our recognisers have in common.

They run on every message, so three rules keep them quick, and linear in the length of a text:

- A `gate` is an expression that costs next to nothing and without which there is no match.
  Equal gates are one object, so that a caller can try each once a text.
- An expression starts with a set of characters or a literal, for which `re` has a fast
  search, and looks behind after it: `\\d(?<!\\d\\d)` rather than `(?<!\\d)\\d`.
- A repetition is bounded, possessive, or starts only where a run of its characters starts.
"""

import re
from typing import Any, ClassVar, Protocol

from presidio_analyzer import Pattern, PatternRecognizer, RecognizerResult

DIGIT = re.compile(r"\d")
THREE_DIGITS = re.compile(r"\d\d\d")
AT = re.compile(r"@")

# How far before and after a match a context word may stand, in characters.
BEFORE, AFTER = 40, 20


class Gate(Protocol):
    """What a text without a match hardly ever gets through."""

    def search(self, text: str, /) -> object | None: ...


class ContextPatternRecognizer(PatternRecognizer):  # type: ignore[misc]
    """Presidio's PatternRecognizer, declared by class attributes and without an NLP engine.

    A context word near a match raises its score to CONTEXT_SCORE. Where a pattern has a
    group `datum`, the rest of the match is what the datum is known by, and stays.
    """

    ENTITY: ClassVar[str]
    PATTERNS: ClassVar[tuple[Pattern, ...]]
    CONTEXT: ClassVar[tuple[str, ...]] = ()
    CONTEXT_SCORE: ClassVar[float] = 0.85
    FLAGS: ClassVar[int] = re.IGNORECASE
    gate: ClassVar[Gate | None] = DIGIT

    def __init__(self) -> None:
        super().__init__(
            supported_entity=self.ENTITY,
            name=type(self).__name__,
            supported_language="en",
            patterns=list(self.PATTERNS),
            context=list(self.CONTEXT),
        )
        self._expressions = [
            (re.compile(pattern.regex, self.FLAGS), pattern.score) for pattern in self.PATTERNS
        ]
        self._near = any_word(self.CONTEXT) if self.CONTEXT else None

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """Where the datum stands in a match."""
        return match.span("datum" if "datum" in match.re.groupindex else 0)

    def weigh(self, value: str, score: float) -> float:  # noqa: ARG002
        """The score of a datum that a pattern of this score matched; 0 is none at all."""
        return score

    def analyze(
        self,
        text: str,
        entities: list[str],
        nlp_artifacts: Any = None,  # noqa: ARG002
        regex_flags: int | None = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        results: list[RecognizerResult] = []
        if self.ENTITY not in entities:
            return results
        for expression, pattern_score in self._expressions:
            for match in expression.finditer(text):
                start, end = self.span(match)
                score = self.weigh(text[start:end], pattern_score)
                if 0 < score < self.CONTEXT_SCORE and is_near(self._near, text, start, end):
                    score = self.CONTEXT_SCORE
                if score > 0:
                    results.append(RecognizerResult(self.ENTITY, start, end, score))
        return results


class DecidingRecognizer(ContextPatternRecognizer):
    """A recogniser whose expression only proposes a span; `decide` finds the value in it."""

    SCORE: ClassVar[float]

    def decide(self, text: str, start: int, end: int) -> tuple[int, int] | None:
        """The [start, end) of the value within text[start:end]; None if there is no value."""
        raise NotImplementedError

    def analyze(
        self,
        text: str,
        entities: list[str],
        nlp_artifacts: Any = None,  # noqa: ARG002
        regex_flags: int | None = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        if self.ENTITY not in entities:
            return []
        spans = (
            self.decide(text, *match.span())
            for expression, _ in self._expressions
            for match in expression.finditer(text)
        )
        return [RecognizerResult(self.ENTITY, *span, self.SCORE) for span in spans if span]


def names(*expressions: str) -> str:
    """An expression for any of these, in any case, where no letter or digit stands before.

    Grouped by first letters, which `re` passes over fastest. Each begins with a letter.
    """
    tails: dict[str, list[str]] = {}
    for expression in expressions:
        tails.setdefault(expression[0], []).append(expression[1:])
    choice = "|".join(
        f"[{first}{first.upper()}](?i:{'|'.join(rest)})" for first, rest in tails.items()
    )
    return rf"(?<![^\W_])(?:{choice})"


def any_word(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of these as a word of its own: no Latin letter touches it."""
    choice = "|".join(
        re.escape(word).replace(r"\ ", r"[\s_-]?").replace("'", "['\u2019]") for word in words
    )
    return re.compile(rf"(?<![A-Za-zÀ-ɏ])(?:{choice})s?(?![A-Za-zÀ-ɏ])", re.IGNORECASE)


def is_near(words: re.Pattern[str] | None, text: str, start: int, end: int) -> bool:
    """Whether one of the words stands near text[start:end]."""
    return words is not None and (
        words.search(text, max(start - BEFORE, 0), start) is not None
        or words.search(text, end, end + AFTER) is not None
    )
