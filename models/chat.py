"""Conversations as token ids, with the loss on what the assistant says and nothing else.

What an assistant's turn adds is read off whole renderings: the prompt is what the template writes
of the messages before it, ending where the assistant starts to speak; the turn is what the
template writes of the conversation up to it, beyond that prompt. So each turn is learnt as it will
be generated, whatever the template does to earlier turns. Turns share an example as long as their
renderings agree; where the template rewrites an earlier turn (leaves out its reasoning, moves the
system prompt), the later turn becomes an example of its own. A template that marks the assistant's
text itself (`{% generation %}`) decides what of a turn is learnt.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_contracts.records import Record
from models.renderings import Rendering, oddities, renderings
from models.template import (
    ChatTemplate,
    Conversation,
    TemplateRefusal,
)

IGNORED = -100  # torch.nn.functional.cross_entropy's default ignore_index

NOTHING_LEARNT = "no assistant turn that is to be learnt"
TOO_LONG = "longer than max_length before the first token that is to be learnt"


@dataclass(frozen=True)
class Example:
    """Token ids of a conversation, or of it up to one of its turns: `labels` is `input_ids` where
    learnt, IGNORED elsewhere. `id` is the conversation's, so several examples may share it."""

    id: str
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def supervised(self) -> int:
        """Tokens that carry loss. The first token is never predicted, so never counted."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass
class EncodingReport:
    """What encoding did and left out; nothing is cut silently.

    `skipped` counts conversations by the reason; `changed` counts those that were adapted to the
    chat template, by how, and those of which it left something out. `turns` are the assistant's
    that are to be learnt, `turns_cut` those of them that lie beyond the length limit.
    """

    conversations: int = 0
    examples: int = 0
    truncated: int = 0
    tokens_cut: int = 0
    turns: int = 0
    turns_cut: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def add(self, other: "EncodingReport") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def encode(
    template: ChatTemplate, identifier: str, conversation: Conversation, max_length: int
) -> tuple[list[Example], EncodingReport]:
    """Encode one conversation, each of its examples cut to `max_length` tokens.

    Raises:
        TemplateRefusal: the chat template does not take it, or changes what the assistant says.
    """
    prepared = template.prepare(conversation)
    tokens = _Tokens(template.tokenizer, prepared.text, max_length)
    changes, examples, reached = set(prepared.changes), [], 0
    for rendering in renderings(template, prepared, tokens.reach):
        for turn in rendering.turns:
            changes |= oddities(prepared.chats[turn.place], turn)
        example, turns = tokens.example(identifier, rendering)
        if example.supervised:
            examples.append(example)
            reached += turns
    learnt = sum(turn.learnt for turn in prepared.turns)
    report = EncodingReport(
        conversations=1,
        examples=len(examples),
        truncated=int(tokens.cut > 0 or reached < learnt),
        tokens_cut=tokens.cut,
        turns=learnt,
        turns_cut=learnt - reached,
        changed=Counter(changes),
    )
    if not examples:
        report.skipped[TOO_LONG if learnt else NOTHING_LEARNT] = 1
    return examples, report


class _Tokens:
    """The tokens of a conversation's renderings, as far as they are learnt from."""

    def __init__(self, tokenizer: Any, whole: str, max_length: int) -> None:
        self._tokenizer, self._whole, self._max_length = tokenizer, whole, max_length
        self._of_whole = self._encode(whole)

    @property
    def cut(self) -> int:
        """How many tokens of the whole conversation lie beyond the limit."""
        return max(0, len(self._of_whole[0]) - self._max_length)

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoding["input_ids"], encoding["offset_mapping"]

    def reach(self, text: str, at: int) -> bool:
        """Whether the first `max_length` tokens of a rendering go beyond a character of it."""
        _, offsets = self._of_whole
        if len(offsets) <= self._max_length:
            return True
        if not self._whole.startswith(text[:at]):
            _, offsets = self._encode(text)
        return len(offsets) <= self._max_length or offsets[self._max_length - 1][1] > at

    def example(self, identifier: str, rendering: Rendering) -> tuple[Example, int]:
        """The example, and of how many turns it holds at least the beginning."""
        same = rendering.text == self._whole
        ids, offsets = self._of_whole if same else self._encode(rendering.text)
        kept = ids[: self._max_length]
        spans = rendering.spans
        labels, reached, at = [], set(), 0
        for token, (left, right) in zip(kept, offsets, strict=False):
            while at < len(spans) and spans[at][1] <= left:
                at += 1
            # A token that straddles the border (a template's last space and the first word, say)
            # holds what the assistant said, so it is learnt.
            learnt = at < len(spans) and right > spans[at][0]
            labels.append(token if learnt else IGNORED)
            if learnt:
                reached.add(at)
        return Example(identifier, tuple(kept), tuple(labels)), rendering.turns_of(reached)


def encode_all(
    template: ChatTemplate, records: Iterable[Record], max_length: int
) -> tuple[list[Example], EncodingReport]:
    """Encode conversations; those without a token to learn from are skipped and reported."""
    examples: list[Example] = []
    report = EncodingReport()
    for record in records:
        try:
            some, own = encode(template, record.id, record, max_length)
        except TemplateRefusal as refusal:
            some, own = [], EncodingReport(conversations=1, skipped=Counter([refusal.reason]))
        examples += some
        report.add(own)
    return examples, report


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    """Right-padded tensors `input_ids`, `attention_mask`, `labels`, each [batch, longest]."""
    import torch

    width = max((len(example.input_ids) for example in examples), default=1)
    shape = (len(examples), width)
    batch = {
        "input_ids": torch.full(shape, pad_id),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORED),
    }
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        batch["input_ids"][row, :length] = torch.tensor(example.input_ids)
        batch["attention_mask"][row, :length] = 1
        batch["labels"][row, :length] = torch.tensor(example.labels)
    return batch
