"""The scrub of one conversation: what was found in its texts is replaced, consistently."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from data_contracts.digests import digest_json
from data_contracts.errors import RowRejected
from data_contracts.findings import Finding
from data_contracts.policy import ScrubPolicy
from data_contracts.records import LabelledSpan, Message, Record
from tasks.scrub.replace import Replacer, secret_key

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
    replacer = Replacer(policy, [message.content for message in messages], key)
    out, result = [], ScrubbedMessages(())
    for turn, message in enumerate(messages):
        found = find(message.content)
        result.findings.update(one.entity for one in found)
        result.scores.update(min(9, int(10 * one.score)) for one in found)
        for label in (label for label in labels if label.turn == turn):
            result.labelled[label.entity] += 1
            result.covered[label.entity] += is_covered(
                message.content, label.start, label.end, found
            )
        out.append(Message(role=message.role, content=replacer.replace(message.content, found)))
    result.messages = tuple(out)
    return result


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
    served = record.served
    clean = scrub_messages(_messages(record), find, policy, key, record.labelled_spans)
    if served:
        served = served.model_copy(
            update={
                "workload": _safe_name(served.workload, find),
                "model_version": _safe_name(served.model_version, find),
                "correction": None if served.correction is None else clean.messages[-1].content,
            }
        )
    scrubbed = Record(
        id=_safe_id(record, find),
        messages=clean.messages[: len(record.messages)],
        created_at=record.created_at,
        source=record.source,
        served=served,
    )
    return scrubbed, clean


def texts(record: Record) -> Iterator[str]:
    """All that `scrub_record` will look for personal data in."""
    yield from (message.content for message in _messages(record))
    if record.served:
        yield from (name for name in (record.served.workload, record.served.model_version) if name)
    if not _is_uuid(record.id):
        yield record.id


def refuse_long(text: str, policy: ScrubPolicy) -> None:
    if len(text) > policy.max_message_characters:
        raise RowRejected(f"scrub: message longer than {policy.max_message_characters} characters")


def broken(error: Exception) -> RowRejected:
    """A recogniser broke on a text. Its message may quote the text: the type alone is kept."""
    return RowRejected(f"scrub: {type(error).__name__} in a recogniser")


def _messages(record: Record) -> list[Message]:
    messages = list(record.messages)
    if record.served and record.served.correction is not None:
        messages.append(Message(role="assistant", content=record.served.correction))
    return messages


def _safe_name(name: str | None, find: Find) -> str | None:
    """The name of a workload or model, unless it is personal data."""
    return f"name~{digest_json(name)[:12]}" if name and find(name) else name


def _safe_id(record: Record, find: Find) -> str:
    """The record's id, unless it is personal data itself: then one made of its digest."""
    if not _is_uuid(record.id) and find(record.id):
        return f"row~{record.content_digest[:12]}"
    return record.id


def distinct_id(identifier: str, digest: str) -> str:
    """Another id for a row whose own is taken."""
    return f"{identifier}~{digest[:12]}"


def _is_uuid(text: str) -> bool:
    """Random digits in a UUID may look like a telephone number, but are not."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
