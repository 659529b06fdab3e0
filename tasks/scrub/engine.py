"""The scrubber: Presidio behind one small interface.

Placeholders are numbered from left to right and stay the same for the same value
throughout a conversation: `<PERSON_1>` is one person from the first turn to the last.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NerModelConfiguration, NlpArtifacts, SpacyNlpEngine

from data_contracts.errors import ConfigError, RowRejected
from data_contracts.policy import PLACEHOLDER, ScrubPolicy
from data_contracts.records import LabelledSpan, Message
from tasks.scrub.recognizers import AnyPhoneRecognizer, CardNumberRecognizer

# en_core_web_sm's labels that say who or where somebody is; the others are left alone.
SPACY_ENTITIES = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "LOCATION",
}
SPACY_IGNORED = {
    "CARDINAL", "DATE", "EVENT", "LANGUAGE", "LAW", "MISC", "MONEY", "NORP", "ORDINAL", "ORG",
    "PERCENT", "PRODUCT", "QUANTITY", "TIME", "WORK_OF_ART",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Personal data at characters [start, end) of a text."""

    start: int
    end: int
    entity: str
    score: float


@dataclass
class ScrubbedMessages:
    """A conversation without its personal data, and what was taken out."""

    messages: tuple[Message, ...]
    findings: Counter[str] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)


class Scrubber:
    """Finds and replaces personal data under one policy. Loads its models once, on creation.

    Raises:
        ConfigError: the policy names a spaCy model that is not installed.
    """

    def __init__(self, policy: ScrubPolicy) -> None:
        self.policy = policy
        self._allowed = {word.casefold() for word in policy.allow_list}
        self._analyzer = _analyzer(policy)

    def find(self, text: str) -> list[Finding]:
        """Findings in `text`, left to right, none overlapping.

        Overlapping detections become one finding over their union, under the name of
        the surest (then longest) of them, so that no part of any stays visible.
        """
        detections = [
            Finding(result.start, result.end, result.entity_type, result.score)
            for result in self._analyzer.analyze(
                text, language=self.policy.language, entities=list(self.policy.entities)
            )
            if result.score >= self.policy.entities[result.entity_type].threshold
            and text[result.start : result.end].casefold() not in self._allowed
        ]
        standing = [found.span() for found in PLACEHOLDER.finditer(text)]
        return merge(
            [
                found
                for found in detections
                # A placeholder is nobody's data: what is scrubbed stays as it is.
                if not any(start <= found.start and found.end <= end for start, end in standing)
            ]
        )

    def scrub(
        self, messages: Sequence[Message], labels: Sequence[LabelledSpan] = ()
    ) -> ScrubbedMessages:
        """Replace what is found in each message.

        Args:
            messages: a whole conversation, so that placeholders stay the same throughout.
            labels: where the source says personal data stands, to count what is covered.

        Raises:
            RowRejected: a message is longer than the policy allows.
        """
        placeholders = Placeholders(messages)
        out, result = [], ScrubbedMessages(())
        for turn, message in enumerate(messages):
            text = message.content
            if len(text) > self.policy.max_message_characters:
                raise RowRejected(
                    f"scrub: message longer than {self.policy.max_message_characters} characters"
                )
            findings = self.find(text)
            result.findings.update(finding.entity for finding in findings)
            for label in (label for label in labels if label.turn == turn):
                result.labelled[label.entity] += 1
                result.covered[label.entity] += any(
                    finding.start <= label.start and label.end <= finding.end
                    for finding in findings
                )
            out.append(Message(role=message.role, content=placeholders.replace(text, findings)))
        result.messages = tuple(out)
        return result


class Placeholders:
    """Numbered stand-ins for the values of one conversation.

    Numbers start above any that the conversation's own text already uses, so that
    `<PERSON_1>` typed by a user is never taken for ours.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        used = [int(number) for m in messages for number in PLACEHOLDER.findall(m.content)]
        self._offset = max(used, default=0)
        self._numbers: dict[str, dict[str, int]] = {}

    def replace(self, text: str, findings: Sequence[Finding]) -> str:
        parts, at = [], 0
        for finding in findings:
            numbers = self._numbers.setdefault(finding.entity, {})
            value = unicodedata.normalize("NFKC", text[finding.start : finding.end]).casefold()
            number = numbers.setdefault(value, self._offset + len(numbers) + 1)
            parts += [text[at : finding.start], f"<{finding.entity}_{number}>"]
            at = finding.end
        return "".join([*parts, text[at:]])


def merge(detections: Sequence[Finding]) -> list[Finding]:
    """Unions of overlapping detections, left to right."""
    merged: list[Finding] = []
    best: list[Finding] = []
    for detection in sorted(detections, key=lambda found: (found.start, -found.end)):
        if merged and detection.start < merged[-1].end:
            surest = max(best[-1], detection, key=lambda f: (f.score, f.end - f.start))
            end = max(merged[-1].end, detection.end)
            merged[-1] = Finding(merged[-1].start, end, surest.entity, surest.score)
            best[-1] = surest
        else:
            merged.append(detection)
            best.append(detection)
    return merged


class NerOnlyEngine(SpacyNlpEngine):  # type: ignore[misc]
    """spaCy with the named-entity component alone.

    Tagger, parser and lemmatiser take half of the time and Presidio uses them only
    for lemmas of context words, for which the lower-case form does as well.
    """

    def load(self) -> None:
        import spacy

        self.nlp = {
            model["lang_code"]: spacy.load(
                model["model_name"],
                exclude=["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"],
            )
            for model in self.models
        }

    def _doc_to_nlp_artifact(self, doc: Any, language: str) -> NlpArtifacts:
        artifacts = super()._doc_to_nlp_artifact(doc, language)
        artifacts.lemmas = [token.lower_ for token in doc]
        return artifacts


def _analyzer(policy: ScrubPolicy) -> AnalyzerEngine:
    import spacy.util
    import tldextract

    # It warns of every recogniser of another language.
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    # Presidio validates host names with tldextract, which by default downloads a list.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    if not spacy.util.is_package(policy.spacy_model):
        raise ConfigError(
            f"the scrub policy's spaCy model {policy.spacy_model!r} is not installed",
            "install its package, or name another in the policy",
        )
    engine = NerOnlyEngine(
        models=[{"lang_code": policy.language, "model_name": policy.spacy_model}],
        ner_model_configuration=NerModelConfiguration(
            model_to_presidio_entity_mapping=SPACY_ENTITIES,
            labels_to_ignore=SPACY_IGNORED,
        ),
    )
    engine.load()
    registry = RecognizerRegistry(supported_languages=[policy.language])
    registry.load_predefined_recognizers(
        languages=[policy.language], nlp_engine=engine, countries=list(policy.countries)
    )
    registry.add_recognizer(CardNumberRecognizer())
    registry.add_recognizer(AnyPhoneRecognizer())
    return AnalyzerEngine(
        registry=registry, nlp_engine=engine, supported_languages=[policy.language]
    )
