"""The scrub of one conversation: what was found in its texts is replaced, consistently."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path
from uuid import UUID

from data_contracts.digests import digest_json
from data_contracts.errors import RowRejected
from data_contracts.findings import Finding, merge
from data_contracts.labels import label_name
from data_contracts.policy import ScrubPolicy
from data_contracts.records import LabelledSpan, Message, Record
from tasks.scrub.across import CHECKED, crossings
from tasks.scrub.file_names import scrub_file_name, texts_of_name
from tasks.scrub.json_text import JsonText, Value, within
from tasks.scrub.languages import language_of
from tasks.scrub.mentions import Mentions
from tasks.scrub.recognizers.checked_ids import is_checked
from tasks.scrub.replace import Replacer, normalised, secret_key
from tasks.scrub.texts import (
    Kind,
    as_searched,
    is_structure,
    json_of,
    lead,
    rewrite,
    searched,
    texts_of,
)

# Of a digest in an id: enough for a thousand million rows.
ID_DIGITS = 16
# What a replaced id begins with.
REPLACED_ID = "row~"
# What makes an id personal data: kinds whose form leaves little doubt.
CERTAIN = (
    "EMAIL_ADDRESS", "PHONE_NUMBER", "IBAN_CODE", "CREDIT_CARD", "US_SSN", "SECRET", "MAC_ADDRESS",
    "CRYPTO",
)  # fmt: skip
# Shorter values of a conversation are not looked for in its id.
LEAST_IN_ID = 5
NOT_WORDS = re.compile(r"[\W_]+")

# The findings of a text; raises RowRejected if it could not be searched.
Find = Callable[[str], list[Finding]]


@dataclass
class ScrubbedMessages:
    """A conversation without its personal data, and what was taken out."""

    messages: tuple[Message, ...]
    findings: Counter[str] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)
    uncovered: Counter[str] = field(default_factory=Counter)


class Scrubber:
    """Finds and replaces personal data under one policy, in this process.

    Args:
        policy: what is looked for, and what becomes of it.
        detector: the folder of the learned detector; None if the policy does without.

    Raises:
        ConfigError: the policy asks for a key or a spaCy model that is not there.
        ModelError: there is no whole detector in the folder.
    """

    def __init__(self, policy: ScrubPolicy, detector: Path | None) -> None:
        self.policy = policy
        self.key = secret_key(policy)
        from tasks.scrub.finder import Finder

        self._finder = Finder(policy, detector if policy.detector else None)

    def find(self, text: str) -> list[Finding]:
        """Findings, left to right, none overlapping.

        Raises:
            RowRejected: the text is longer than the policy allows, or a recogniser broke on it.
        """
        refuse_long(text, self.policy)
        try:
            return self._finder.find([text])[0]
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise broken(error) from None

    def scrub(
        self, messages: Sequence[Message], labels: Sequence[LabelledSpan] = ()
    ) -> ScrubbedMessages:
        return scrub_messages(messages, self.find, self.policy, self.key, labels)

    def record(self, record: Record) -> tuple[Record, ScrubbedMessages]:
        return scrub_record(record, self.find, self.policy, self.key)


def scrub_messages(
    messages: Sequence[Message],
    find: Find,
    policy: ScrubPolicy,
    key: bytes | None,
    labels: Sequence[LabelledSpan] = (),
) -> ScrubbedMessages:
    """Replace what is found in each message.

    Args:
        messages: a whole conversation, so that replacements are the same throughout.
        find: the findings of a text.
        policy: what becomes of them.
        key: of pseudonyms and surrogates.
        labels: where the source says personal data stands, to count what is covered.

    Raises:
        RowRejected: a message could not be searched.
    """
    record = Record(id="", messages=tuple(messages), source="", labelled_spans=tuple(labels))
    return Scrubbing(record, find, policy, key).result


class Scrubbing:
    """The scrub of one record. `clean` is the record without the personal data in its texts.

    A value that was found anywhere in the conversation is also replaced where it makes up a whole
    name, or a whole value in JSON, where there is little around it to find it by; a name that was
    found for sure, wherever it stands.

    Raises:
        RowRejected: a text could not be searched, or is in a language that the policy keeps out.
    """

    def __init__(self, record: Record, find: Find, policy: ScrubPolicy, key: bytes | None) -> None:
        self._find, self._policy = cache(find), policy
        self._texts = texts_of(record)
        self._replacer = Replacer(policy, [text for _, text in self._texts], key)
        self.known: dict[str, str] = {}
        self._call_ids: dict[str, str] = {}
        self._taken = {text for kind, text in self._texts if kind == "call id"}
        self._numbers = count(1)
        self.result = ScrubbedMessages(())
        self._mentions = Mentions(())
        self._crossing = self._across(record)
        noted = [one for kind, text in self._texts for one in self._search(kind, text)]
        self._mentions = Mentions(noted)
        for kind, text in self._texts:
            self._count(kind, text)
        self._count_labels(record)
        self.clean = rewrite(record, self._replace)
        self.result.messages = self.clean.messages

    def _search(self, kind: Kind, text: str) -> Iterator[tuple[str, Finding]]:
        """(text, finding) of all that is found in a text, or in the values of one that is JSON."""
        if (json_text := json_of(kind, text)) is not None:
            for value in json_text.values:
                for one in self._within(json_text, value):
                    yield value.text, one
        else:
            for one in self._found(kind, text):
                yield text, one

    def _found(self, kind: Kind, text: str) -> list[Finding]:
        if is_structure(kind, text):
            return []
        before = lead(kind)
        found = [
            replace(one, start=max(0, one.start - before), end=one.end - before)
            for one in self._find(as_searched(kind, text))
            if one.end > before
        ]
        if kind in ("text", "labelled") and text in self._crossing:
            found = merge([*found, *self._crossing[text]])
        return self._mentions.added(text, found)

    def _across(self, record: Record) -> dict[str, list[Finding]]:
        """{text of a message: the parts of values that go on in another message}"""
        parts: dict[str, list[Finding]] = {}
        for row, crossing in crossings(record.messages):
            for one in self._find(crossing.text):
                if one.entity in CHECKED:
                    for index, part in crossing.findings(one):
                        parts.setdefault(row[index], []).append(part)
        return parts

    def _within(self, json_text: JsonText, value: Value) -> list[Finding]:
        found = within(self._find(json_text.searched), value)
        return self._mentions.added(value.text, found)

    def _count(self, kind: Kind, text: str) -> None:
        for searched_text, one in self._search(kind, text):
            self.result.findings[one.entity] += 1
            self.result.scores[min(9, int(10 * one.score))] += 1
            value = normalised(searched_text[one.start : one.end])
            self.known.setdefault(value, one.entity)
        covered = self._policy.covered  # none where names are not looked for at all
        if kind in ("text", "labelled") and covered and (code := language_of(text, covered)):
            if self._policy.uncovered == "quarantine":
                raise RowRejected(f"scrub: in a language that is not covered ({code})")
            self.result.uncovered[code] += 1

    def _replace(self, kind: Kind, text: str) -> str:
        if (json_text := json_of(kind, text)) is not None:
            return json_text.replaced(
                lambda value: self._without(value.text, self._within(json_text, value), whole=True)
            )
        found = self._found(kind, text)
        if kind == "call id":
            return self._call_id(text) if found or normalised(text) in self.known else text
        return self._without(text, found, whole=kind in ("name", "function name"))

    def _without(self, text: str, found: Sequence[Finding], *, whole: bool) -> str:
        entity = self.known.get(normalised(text)) if whole else None
        if entity is not None:
            found = [Finding(0, len(text), entity)]
        return self._replacer.replace(text, found)

    def _call_id(self, identifier: str) -> str:
        """Another id for calls whose own is personal data: nine letters and digits, as some
        templates want it."""
        if identifier not in self._call_ids:
            names = (f"call{number:05}" for number in self._numbers)
            self._call_ids[identifier] = next(name for name in names if name not in self._taken)
        return self._call_ids[identifier]

    def _count_labels(self, record: Record) -> None:
        for label in record.labelled_spans:
            content = record.messages[label.turn].content
            name = label_name(label.entity, self._policy.entities)
            self.result.labelled[name] += 1
            self.result.covered[name] += is_covered(
                content, label.start, label.end, self._find(content)
            )


def is_covered(text: str, start: int, end: int, found: Sequence[Finding]) -> bool:
    """Whether no letter or digit of [start, end) is outside all findings."""
    hidden = {at for one in found for at in range(max(start, one.start), min(end, one.end))}
    return all(at in hidden or not text[at].isalnum() for at in range(start, end))


def scrub_record(
    record: Record, find: Find, policy: ScrubPolicy, key: bytes | None
) -> tuple[Record, ScrubbedMessages]:
    """A record without personal data, and what was found.

    Raises:
        RowRejected: it cannot be scrubbed.
    """
    scrubbing = Scrubbing(record, find, policy, key)
    clean = scrubbing.clean
    served = clean.served
    if served:
        served = served.model_copy(
            update={
                "workload": _safe_name(served.workload, find, policy, key),
                "model_version": _safe_name(served.model_version, find, policy, key),
            }
        )
    source = scrub_file_name(record.source, find, policy, key)
    clean = clean.model_copy(update={"source": source, "served": served})
    identifier = _safe_id(record, clean, find, scrubbing.known)
    return clean.model_copy(update={"id": identifier}), scrubbing.result


def texts(record: Record) -> Iterator[str]:
    """All that `scrub_record` will look for personal data in."""
    yield from searched(texts_of(record))
    yield from (one.text for _, one in crossings(record.messages))
    if record.served:
        yield from (name for name in (record.served.workload, record.served.model_version) if name)
    yield from texts_of_name(record.source)
    if (own := _own_id(record)) and not _is_uuid(own):
        yield own


def refuse_long(text: str, policy: ScrubPolicy) -> None:
    if len(text) > policy.max_message_characters:
        raise RowRejected(f"scrub: message longer than {policy.max_message_characters} characters")


def broken(error: Exception) -> RowRejected:
    """A recogniser broke on a text. Its message may quote the text: the type alone is kept."""
    return RowRejected(f"scrub: {type(error).__name__} in a recogniser")


def _safe_name(name: str | None, find: Find, policy: ScrubPolicy, key: bytes | None) -> str | None:
    """The name of a workload or model without personal data."""
    return name and Replacer(policy, [name], key).replace(name, find(name))


def _safe_id(record: Record, clean: Record, find: Find, known: Iterable[str]) -> str:
    """The record's id; another one if it is personal data, or holds a value of its conversation.

    The other one is a digest of scrubbed text alone, so nobody can try texts until one gives this
    id. Neither digits alone nor what only the detector takes for personal data replaces an id: most
    ids are codes.
    """
    own = _own_id(record)
    if not own or (
        not _is_uuid(own)
        and (_holds(own, known) or any(_is_certain(one, own) for one in find(own)))
    ):
        return f"{REPLACED_ID}{digest_json([clean.created_at, clean.content_digest])[:ID_DIGITS]}"
    return own if own == record.id else f"{clean.source}:{own}"


def _is_certain(found: Finding, identifier: str) -> bool:
    value = identifier[found.start : found.end]
    if found.entity == "ID_NUMBER":
        return not value.isalnum() and is_checked(value, announced=False)
    return found.entity in CERTAIN and any(not sign.isdigit() for sign in value)


def _holds(identifier: str, known: Iterable[str]) -> bool:
    """Whether a value that was found in the conversation stands in its id, as whole words."""
    words = f" {_words(identifier)} "
    return any(
        len(value) >= LEAST_IN_ID and f" {_words(value)} " in words
        for value in known
        if any(map(str.isalnum, value))
    )


def _words(text: str) -> str:
    return " ".join(NOT_WORDS.sub(" ", normalised(text)).split())


def _own_id(record: Record) -> str:
    """The id without the name of the file, which is scrubbed for itself."""
    return record.id.removeprefix(f"{record.source}:")


def distinct_id(identifier: str, clean_digest: str) -> str:
    """Another id for a row whose own is taken."""
    return f"{identifier}~{clean_digest[:ID_DIGITS]}"


def _is_uuid(text: str) -> bool:
    """Random digits in a UUID may look like a telephone number, but are not."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
