"""Names and places by a spaCy model: for languages that the learned detector was not taught."""

from collections.abc import Sequence
from typing import Any

from data_contracts.errors import ConfigError
from data_contracts.findings import Finding

# spaCy's labels that say who or where somebody is; the others are left alone.
ENTITIES = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "LOCATION",
    "ORG": "ORGANIZATION",
}
# What named entities do not need takes half of the time.
UNUSED = ["tagger", "parser", "attribute_ruler", "lemmatizer", "morphologizer", "senter"]
SCORE = 0.85  # spaCy does not say how sure it is; Presidio takes the same


class SpacyNames:
    """A spaCy model's named entities.

    Raises:
        ConfigError: the model is not installed.
    """

    def __init__(self, model: str) -> None:
        import spacy

        require_installed(model)
        self._nlp: Any = spacy.load(model, exclude=UNUSED)

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [
            [
                Finding(part.start_char, part.end_char, ENTITIES[part.label_], SCORE)
                for part in document.ents
                if part.label_ in ENTITIES
            ]
            for document in self._nlp.pipe(texts)
        ]


def require_installed(model: str) -> None:
    """Raises ConfigError: there is no such spaCy model."""
    import spacy.util

    if not spacy.util.is_package(model):
        raise ConfigError(
            f"the scrub policy's spaCy model {model!r} is not installed",
            "install its package, or name another in the policy",
        )
