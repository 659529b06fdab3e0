"""Evaluate: how well a model predicts held-out answers, and what it answers itself."""

from collections.abc import Callable, Sequence
from itertools import islice, zip_longest

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import DataError
from data_contracts.records import Message, Record
from data_contracts.snapshots import Snapshot
from models.adapters import Adapter, load_model
from models.base import Base, load_tokenizer
from models.chat import encode_all
from models.generate import answer
from models.score import ItemLoss, mean_loss, perplexity, score
from tasks.progress import StageProgress
from tasks.replay import Slice, slice_of
from tasks.split import Split
from tasks.stage import stage_task


class EvaluateSettings(BaseModel):
    """How models are compared on the held-out conversations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_items: int = Field(default=200, ge=1, description="Held-out conversations scored, at most.")
    max_length: int = Field(
        default=512, gt=8, description="Tokens of a conversation that are scored."
    )
    samples: int = Field(default=3, ge=0, description="Conversations each model answers itself.")
    max_new_tokens: int = Field(default=48, gt=0, description="Length limit of those answers.")


class Sample(BaseModel):
    """A model's own answer beside the one that was given. All text is scrubbed."""

    model_config = ConfigDict(frozen=True)

    id: str
    prompt: str
    given: str
    answer: str


class ModelScore(BaseModel):
    """Held-out results of one model; `loss` in nats a supervised token."""

    model_config = ConfigDict(frozen=True)

    loss: float
    perplexity: float
    items: tuple[ItemLoss, ...]
    samples: tuple[Sample, ...]


class Evaluation(BaseModel):
    """The same items scored by each model; `champion` is None before there is one."""

    model_config = ConfigDict(frozen=True)

    challenger: ModelScore
    champion: ModelScore | None
    base: ModelScore
    slices: dict[str, Slice] = Field(
        default={}, description="{item id: old or new data}, in a retrain after drift."
    )

    @property
    def bar(self) -> tuple[str, ModelScore]:
        """Who has to be beaten: the champion, or on the first run the base model."""
        return ("champion", self.champion) if self.champion else ("base", self.base)


def evaluate(
    base: Base,
    adapter: Adapter | None,
    holdout: Snapshot,
    settings: EvaluateSettings,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> ModelScore:
    """Score one model (the base alone if `adapter` is None) on the held-out conversations.

    Raises:
        DataError: no held-out conversation has an assistant turn within the length limit.
        ModelError: the model cannot be loaded.
    """
    tokenizer = load_tokenizer(base)
    records = {record.id: record for record in holdout.records()}
    chosen = choose(list(records.values()), settings.max_items)
    examples, _ = encode_all(
        tokenizer, ((record.id, record.messages) for record in chosen), settings.max_length
    )
    if not examples:
        raise DataError(
            f"no held-out conversation has an assistant turn within {settings.max_length} tokens",
            "raise evaluate.max_length or split.holdout",
        )
    model = load_model(base, adapter)
    items = score(model, examples, tokenizer.pad_token_id, on_progress=on_progress)
    samples = []
    for example in examples[: settings.samples]:
        prompt, given = first_exchange(records[example.id].messages)
        samples.append(
            Sample(
                id=example.id,
                prompt=prompt[-1].content,
                given=given,
                answer=answer(model, tokenizer, prompt, max_new_tokens=settings.max_new_tokens),
            )
        )
    loss = mean_loss(items)
    return ModelScore(
        loss=loss, perplexity=perplexity(loss), items=tuple(items), samples=tuple(samples)
    )


def choose(records: Sequence[Record], count: int) -> list[Record]:
    """At most `count` of them, in a retrain after drift old and new ones in turn."""
    by_source: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.id):
        by_source.setdefault(slice_of(record.source) or "", []).append(record)
    rounds = zip_longest(*by_source.values())
    return list(islice((r for turn in rounds for r in turn if r is not None), count))


def slices(holdout: Snapshot) -> dict[str, Slice]:
    """{record id: old or new data} of the held-out conversations of a retrain after drift."""
    named = {record.id: slice_of(record.source) for record in holdout.records()}
    return {identifier: part for identifier, part in named.items() if part is not None}


def first_exchange(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], str]:
    """What was said before the assistant first spoke, and what it said."""
    turn = next(turn for turn, message in enumerate(messages) if message.role == "assistant")
    return messages[: max(1, turn)], messages[turn].content


@stage_task(
    "evaluate",
    produces="models/scores",
    description="Held-out token loss of one model.",
    code=("data_contracts", "models", "tasks.evaluate", "tasks.replay"),
)
def evaluate_task(
    base: Base, adapter: Adapter | None, parts: Split, settings: EvaluateSettings
) -> ModelScore:
    progress = StageProgress("evaluate", "conversations")
    return evaluate(base, adapter, parts.holdout, settings, progress)
