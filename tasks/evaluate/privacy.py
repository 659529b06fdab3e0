"""Privacy: what a model gives away of its training text."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import digest_json
from data_contracts.records import Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from models.chat import IGNORED, Example, encode
from models.exposure import FORMATS, Canary, canaries, plant
from models.generate import continuations
from models.template import ChatTemplate, TemplateRefusal
from tasks.split import Split

# Fewer tokens are said again by chance.
FEWEST_TOKENS = 12
MOST_TOKENS = 48
# What a model is given to go on from: the last so many tokens.
PREFIX_TOKENS = 100


class CanarySettings(BaseModel):
    """Invented secrets planted into the training conversations, to see whether they are learnt.

    They are planted after the scrub and the split, so they show what training does with a text
    that it sees `times` times, whatever the scrub lets through.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=0, ge=0, le=64, description="How many; 0 plants none.")
    times: int = Field(default=1, ge=1, description="How often each is planted.")
    candidates: int = Field(
        default=255, ge=31, description="Secrets of the same form that each is ranked among."
    )
    seed: int = Field(default=1, ge=0, description="Other seed, other secrets.")

    def canaries(self) -> list[Canary]:
        return canaries(self.count, self.seed, FORMATS)


def recited(
    model: Any, template: ChatTemplate, records: Sequence[Record], count: int
) -> list[tuple[str, bool]]:
    """(record id, whether the model recites the second half of its longest answer) of `count`
    training conversations, given the `PREFIX_TOKENS` before: the greedy continuation is the very
    text for `FEWEST_TOKENS` to `MOST_TOKENS` tokens (Carlini et al., Quantifying Memorization,
    2023).

    Conversations with shorter answers are left out.
    """
    ranked = sorted(records, key=lambda record: digest_json(["verbatim", record.content_digest]))
    chosen: list[tuple[str, list[int], list[int]]] = []
    for record in ranked:
        if len(chosen) == count:
            break
        if (halves := _halves(template, record)) is not None:
            chosen.append((record.id, *halves))
    said = continuations(
        model,
        [before for _, before, _ in chosen],
        pad_id=template.tokenizer.pad_token_id,
        max_new_tokens=MOST_TOKENS,
    )
    return [
        (identifier, ids[: len(after)] == after)
        for (identifier, _, after), (ids, _) in zip(chosen, said, strict=True)
    ]


def _halves(template: ChatTemplate, record: Record) -> tuple[list[int], list[int]] | None:
    """Token ids up to the middle of the longest answer, and those of the rest of it."""
    try:
        examples, _ = encode(template, record.id, record, sys.maxsize)
    except TemplateRefusal:
        return None
    example, inside = max(
        ((example, run) for example in examples for run in _learnt_runs(example)),
        key=lambda found: len(found[1]),
        default=(None, []),
    )
    inside = inside[:-1]  # the mark of the turn's end
    if example is None or len(inside) < 2 * FEWEST_TOKENS:
        return None
    middle, ids = inside[len(inside) // 2], list(example.input_ids)
    end = min(inside[-1] + 1, middle + MOST_TOKENS)
    return ids[max(0, middle - PREFIX_TOKENS) : middle], ids[middle:end]


def _learnt_runs(example: Example) -> Iterator[list[int]]:
    """Places of the tokens of each answer."""
    learnt = [at for at, label in enumerate(example.labels) if label != IGNORED]
    for _, run in groupby(enumerate(learnt), lambda pair: pair[1] - pair[0]):
        yield [at for _, at in run]


def plant_canaries(parts: Split, settings: CanarySettings, workspace: Workspace) -> Split:
    """The split with canaries among what is trained on; as it is if none are asked for."""
    if not settings.count:
        return parts
    planted = write_records(
        str(workspace.snapshots),
        "planted",
        plant(parts.train.records(), settings.canaries(), settings.times),
        parent=parts.train.digest,
        provenance={"canaries": settings.model_dump_json()},
    )
    return parts.model_copy(update={"train": planted})
