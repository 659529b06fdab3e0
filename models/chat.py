"""Conversations as token ids, with the loss on what the assistant says and nothing else."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from data_contracts.records import Message

IGNORED = -100  # torch.nn.functional.cross_entropy's default ignore_index


@dataclass(frozen=True)
class Example:
    """One encoded conversation: `labels` is `input_ids` where supervised, IGNORED elsewhere."""

    id: str
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def supervised(self) -> int:
        """Tokens that carry loss. The first token is never predicted, so never counted."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass
class EncodingReport:
    """What encoding left out. Say it; never cut silently."""

    truncated: int = 0
    tokens_cut: int = 0
    skipped: list[str] = field(default_factory=list)


def render(tokenizer: Any, messages: Sequence[Message], *, prompt: bool = False) -> str:
    """The chat template's text; with `prompt`, ending where the assistant starts to speak."""
    text: str = tokenizer.apply_chat_template(
        [message.model_dump() for message in messages],
        tokenize=False,
        add_generation_prompt=prompt,
    )
    return text


def assistant_spans(
    tokenizer: Any, messages: Sequence[Message], until: int = sys.maxsize
) -> list[tuple[int, int]]:
    """Character spans [start, end) of the assistant's turns, end-of-turn marker included.

    Works for any template whose rendering of a conversation begins with its
    rendering of the conversation's beginning. Turns that start at `until` or later are left out.
    """
    spans = []
    for turn, message in enumerate(messages):
        if message.role == "assistant":
            before = render(tokenizer, messages[:turn], prompt=True)
            if len(before) >= until:
                break
            after = render(tokenizer, messages[: turn + 1])
            if not after.startswith(before):
                raise TemplateError("the template rewrites earlier turns")
            spans.append((len(before), len(after.rstrip())))
    return spans


def encode(
    tokenizer: Any, identifier: str, messages: Sequence[Message], max_length: int
) -> tuple[Example, int]:
    """Encode one conversation, cut to `max_length` tokens; also how many tokens were cut.

    Raises:
        jinja2.TemplateError: the model's chat template does not take this conversation.
    """
    encoding = tokenizer(
        render(tokenizer, messages), add_special_tokens=False, return_offsets_mapping=True
    )
    ids: list[int] = encoding["input_ids"][:max_length]
    offsets = encoding["offset_mapping"][:max_length]
    spans = assistant_spans(tokenizer, messages, max((end for _, end in offsets), default=0))
    # A token that straddles the border (a template's last space and the first word, say)
    # holds what the assistant said, so it is learnt.
    labels = [
        token if any(left < end and right > start for start, end in spans) else IGNORED
        for token, (left, right) in zip(ids, offsets, strict=True)
    ]
    return Example(identifier, tuple(ids), tuple(labels)), len(encoding["input_ids"]) - len(ids)


def encode_all(
    tokenizer: Any,
    conversations: Iterable[tuple[str, Sequence[Message]]],
    max_length: int,
) -> tuple[list[Example], EncodingReport]:
    """Encode (id, messages) pairs; those without a supervised token are skipped and reported."""
    examples, report = [], EncodingReport()
    for identifier, messages in conversations:
        try:
            example, cut = encode(tokenizer, identifier, messages, max_length)
        except TemplateError:
            report.skipped.append(identifier)
            continue
        if cut:
            report.truncated += 1
            report.tokens_cut += cut
        if example.supervised:
            examples.append(example)
        else:
            report.skipped.append(identifier)
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
