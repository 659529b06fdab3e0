"""The conversations of a training as token ids: made and proven once, before any rank starts.

The job's folder holds what the ranks learn from, so that none of them encodes it again, and what
encoding left out, with the reasons.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import digest_json
from data_contracts.errors import TrainingError
from data_contracts.snapshots import Snapshot
from models.base import Base, load_config
from models.chat import TOO_LONG, EncodingReport, Example, encode_all
from models.proof import prove
from models.spec import FinetuneSpec
from models.template import load_template

EXAMPLES = "encoded.safetensors"
REPORT = "encoding.json"
# Fewer conversations than this say little about which step was best.
FEWEST = 10


class Encoding(BaseModel):
    """What encoding did with the conversations to be learnt."""

    model_config = ConfigDict(frozen=True)

    conversations: int
    examples: int
    truncated: int
    tokens_cut: int
    turns: int = Field(description="The assistant's turns that are to be learnt.")
    turns_cut: int = Field(description="Those of them that lie beyond the length limit.")
    skipped: dict[str, int] = Field(description="Conversations, by the reason.")
    changed: dict[str, int] = Field(description="Conversations that were adapted, by how.")
    proven: int = Field(description="Turns of a sample whose masks were proven.")
    ids: tuple[str, ...] = Field(description="The conversation of each example.")

    def remarks(self) -> list[str]:
        """A line for each thing that somebody may want to know before the training."""
        of = f"of {self.conversations} conversations"
        remarks = [f"{count} {of} skipped: {why}" for why, count in self.skipped.items()]
        remarks += [f"{count} {of}: {how}" for how, count in self.changed.items()]
        if self.turns_cut:
            remarks.append(
                f"{self.turns_cut} of {self.turns} turns lie beyond train.max_length, not learnt"
            )
        return remarks


def write_encoding(spec: FinetuneSpec) -> Encoding:
    """Prove the masks and encode the conversations of a job into its folder.

    Raises:
        TrainingError: the proof failed, more conversations than `train.max_skipped` cannot be
            learnt from, none can, or one has tokens that the model does not know.
        ModelError: there is no tokenizer with a chat template.
    """
    import numpy as np
    from safetensors.numpy import save_file

    template = load_template(spec.base)
    proof = prove(template, spec.data.records(), base=spec.base.id)
    examples, report = encode_all(template, spec.data.records(), spec.recipe.max_length)
    require_learnable(report, spec.recipe.max_skipped)
    require_known_tokens(examples, template.tokenizer, spec.base)
    encoding = Encoding(
        **{name: value for name, value in vars(report).items() if name in Encoding.model_fields},
        proven=proof.turns,
        ids=tuple(example.id for example in examples),
    )
    arrays = {
        "lengths": np.array([len(example.input_ids) for example in examples], np.int32),
        "input_ids": np.array([i for example in examples for i in example.input_ids], np.int32),
        "labels": np.array([i for example in examples for i in example.labels], np.int32),
    }
    folder = spec.output_path
    partial = folder / f"{EXAMPLES}.partial"
    save_file(arrays, partial)
    partial.replace(folder / EXAMPLES)
    (folder / REPORT).write_text(encoding.model_dump_json(), encoding="utf-8")
    return encoding


def require_learnable(report: EncodingReport, most: float) -> None:
    """Raise TrainingError if a larger share than `most` of the conversations is skipped, or all."""
    skipped = report.skipped.total()
    reasons = "; ".join(f"{reason} ({count})" for reason, count in report.skipped.most_common())
    if report.skipped.get(TOO_LONG, 0) > skipped / 2:
        fix = "raise train.max_length"
    else:
        fix = "leave such conversations out or adapt them, see docs/models.md"
    if not report.examples:
        raise TrainingError(
            f"none of {report.conversations} conversations can be learnt from: {reasons}", fix
        )
    if skipped > most * report.conversations:
        share = skipped / report.conversations
        raise TrainingError(
            f"{skipped} of {report.conversations} conversations ({share:.1%}) cannot be learnt"
            f" from: {reasons}",
            f"{fix}, or set train.max_skipped: {share + 0.005:.2f} to train without them",
        )


def require_held_out(data: Snapshot, base: Base, max_length: int) -> None:
    """Raises TrainingError: no held-out conversation can be scored, so nothing could be judged."""
    _, report = encode_all(load_template(base), data.records(), max_length)
    if not report.examples:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in report.skipped.items())
        raise TrainingError(
            f"none of {report.conversations} held-out conversations can be scored: {reasons}",
            "adapt them, see docs/models.md, or raise split.holdout or train.max_length",
        )


def require_known_tokens(examples: Sequence[Example], tokenizer: Any, base: Base) -> None:
    """Raises TrainingError: a conversation has a token for which the model has no embedding."""
    vocabulary = int(load_config(base).get_text_config().vocab_size)
    for example in examples:
        if (token := max(example.input_ids)) >= vocabulary:
            raise TrainingError(
                f"the token {tokenizer.convert_ids_to_tokens(token)!r} in conversation {example.id}"
                f" has id {token}, but the model has only {vocabulary} embeddings",
                "use the tokenizer that the model was trained with, or resize its embeddings",
            )


def read_encoding(spec: FinetuneSpec) -> tuple[list[Example], Encoding]:
    """What `write_encoding` wrote."""
    from safetensors.numpy import load_file

    folder = spec.output_path
    encoding = Encoding.model_validate_json((folder / REPORT).read_text(encoding="utf-8"))
    arrays = load_file(folder / EXAMPLES)
    examples, start = [], 0
    for identifier, length in zip(encoding.ids, arrays["lengths"].tolist(), strict=True):
        ids, labels = (arrays[name][start : start + length] for name in ("input_ids", "labels"))
        examples.append(Example(identifier, tuple(ids.tolist()), tuple(labels.tolist())))
        start += length
    return examples, encoding


def validation_split(
    examples: Sequence[Example], share: float
) -> tuple[list[Example], list[Example]]:
    """(examples to learn from, examples to validate on): whole conversations, chosen by their ids.

    There is no validation where fewer than `FEWEST` conversations would be left for it.
    """
    chosen = {
        identifier
        for identifier in {example.id for example in examples}
        if int(digest_json(identifier)[:8], 16) / 16**8 < share
    }
    if len(chosen) < FEWEST:
        return list(examples), []
    return (
        [example for example in examples if example.id not in chosen],
        [example for example in examples if example.id in chosen],
    )


def conversations(examples: Sequence[Example]) -> list[list[int]]:
    """Places of the examples of each conversation, which stand together."""
    return [list(group) for _, group in groupby(range(len(examples)), lambda at: examples[at].id)]
