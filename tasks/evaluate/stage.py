"""Evaluate: everything that is measured of one model, each item of it once."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_contracts.code_version import code_version
from data_contracts.digests import digest_json
from data_contracts.errors import DataError
from data_contracts.policy import ScrubPolicy
from data_contracts.records import Message, Record
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from models.adapters import Adapter, load_model
from models.base import Base
from models.chat import encode_all
from models.encoder import Encoder, EncoderSettings, shared
from models.exposure import exposure
from models.generate import Answer, answers
from models.lora import fuse
from models.score import score, sum_by_id
from models.template import ChatTemplate, Conversation, Dialogue, load_template
from tasks.evaluate.answers import Pairs, quality, require_form
from tasks.evaluate.cache import EVALUATIONS, ItemCache
from tasks.evaluate.harness import HarnessSettings, harness, identity
from tasks.evaluate.judge import JudgeSettings
from tasks.evaluate.measures import Measure, Measures, MetricName, ModelScore, Sample
from tasks.evaluate.privacy import CanarySettings, recited
from tasks.evaluate.safety import SafetySettings, classifier, load_prompts
from tasks.evaluate.sets import RESERVED, EvaluationSets, UserSet, choose
from tasks.progress import StageProgress
from tasks.scrub import BuiltDetector
from tasks.scrub.workers import WorkerSettings, searching
from tasks.stage import stage_task
from tasks.text import is_refusal

Progress: TypeAlias = Callable[[int, int], None]
# Whether each text has personal data in it.
Personal: TypeAlias = Callable[[Sequence[str]], list[bool]]


class EvaluateSettings(BaseModel):
    """What models are compared on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_items: int = Field(default=200, ge=1, description="Conversations scored of a set, at most.")
    max_length: int = Field(
        default=512, gt=8, description="Tokens of a conversation that are scored."
    )
    answers: int = Field(
        default=40, ge=0, description="Conversations of a set that each model answers itself."
    )
    max_new_tokens: int = Field(default=48, gt=0, description="Length limit of those answers.")
    answer_format: str | None = Field(
        default=None, description="`json`, or a regular expression, that answers should match."
    )
    sets: tuple[UserSet, ...] = Field(
        default=(), description="Evaluation sets of your own: `[{name, path}]`."
    )
    general: bool = Field(
        default=True, description="Whether to measure what is forgotten of the base model."
    )
    verbatim: int = Field(
        default=40, ge=0, description="Training conversations that a model is led to recite."
    )
    canaries: CanarySettings = Field(
        default=CanarySettings(), description="Invented secrets planted into the training data."
    )
    harness: HarnessSettings = Field(
        default=HarnessSettings(), description="Tasks of lm-evaluation-harness."
    )
    safety: SafetySettings = Field(default=SafetySettings(), description="Red team.")
    judge: JudgeSettings = Field(default=JudgeSettings(), description="A language model as judge.")

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> Self:
        names = Counter((*RESERVED, *self.harness.tasks, *(own.name for own in self.sets)))
        if taken := [own.name for own in self.sets if names[own.name] > 1]:
            raise ValueError(f"sets: there is another set named {taken[0]!r}; choose another name")
        return self


class Loaded:
    """A model that is loaded when it is first needed: what is known already needs none."""

    def __init__(self, base: Base, adapter: Adapter | None) -> None:
        self.base, self.adapter = base, adapter

    @property
    def digest(self) -> str:
        adapter = self.adapter.digest if self.adapter else None
        template = self.base.model_dump(
            mode="json", include={"chat_template_kwargs", "fold_system"}
        )
        return digest_json([self.base.digest, self.base.dtype, template, adapter])

    @cached_property
    def model(self) -> Any:
        model = load_model(self.base, self.adapter)
        fuse(model)
        return model

    @cached_property
    def template(self) -> ChatTemplate:
        return load_template(self.base)

    @property
    def tokenizer(self) -> Any:
        return self.template.tokenizer


def evaluate(
    base: Base,
    adapter: Adapter | None,
    sets: EvaluationSets,
    settings: EvaluateSettings,
    workspace: Workspace,
    *,
    encoder: Callable[[], Encoder],
    personal: Personal,
    on_progress: Progress = lambda *_: None,
) -> ModelScore:
    """Measure one model (the base alone if `adapter` is None).

    Args:
        encoder: gives the sentence encoder, when answers are compared.
        personal: tells which texts have personal data in them.

    Raises:
        DataError: no held-out conversation has an assistant turn within the length limit.
        ModelError: the model cannot be loaded.
        ConfigError: a setting names something that cannot be used.
    """
    require_form(settings.answer_format)
    loaded = Loaded(base, adapter)
    cache = ItemCache(workspace.cache / EVALUATIONS, loaded.digest, code_version(evaluate))
    measures: dict[str, dict[MetricName, Measures]] = {}
    samples: list[Sample] = []
    for name, snapshot in sets.conversations.items():
        records = choose(snapshot.records(), settings.max_items)
        measures[name] = {"loss": losses(loaded, cache, records, settings.max_length, on_progress)}
        if name != "general" and settings.answers:
            shown = answered(loaded, cache, records[: settings.answers], settings, on_progress)
            measures[name] |= judged(shown, settings, encoder, personal)
            if name == "holdout":
                samples = [sample for sample, _ in shown]
    if "holdout" in measures and not measures["holdout"]["loss"]:
        raise DataError(
            f"no held-out conversation has an assistant turn within {settings.max_length} tokens",
            "raise evaluate.max_length or split.holdout",
        )
    measures["red team"] = red_team(loaded, cache, settings, on_progress)
    if sets.training is not None and settings.verbatim:
        found = verbatim(loaded, cache, sets.training, settings.verbatim)
        measures["training"] = {"verbatim": found}
    if sets.canaries.count and adapter is not None:
        measures["canaries"] = {"exposure": exposures(loaded, cache, sets, on_progress)}
    if settings.harness.tasks:
        measures |= tasks_of(loaded, cache, settings.harness)
    return ModelScore(
        measures={name: metrics for name, metrics in measures.items() if metrics},
        samples=tuple(samples),
    )


def losses(
    loaded: Loaded,
    cache: ItemCache,
    records: Sequence[Record],
    max_length: int,
    on_progress: Progress = lambda *_: None,
) -> Measures:
    """Nats over supervised tokens, of the conversations that have any."""

    def measure(missing: Sequence[Record]) -> list[tuple[float, int] | None]:
        # Their places are their names here: two records may have one id.
        placed = (one.model_copy(update={"id": str(at)}) for at, one in enumerate(missing))
        examples, _ = encode_all(loaded.template, placed, max_length)
        pad = loaded.tokenizer.pad_token_id
        scored = sum_by_id(score(loaded.model, examples, pad, on_progress=on_progress))
        found = {item.id: (item.loss_sum, item.tokens) for item in scored}
        return [found.get(str(place)) for place in range(len(missing))]

    keyed = [(record.content_digest, record) for record in records]
    results = cache.fill(["loss", max_length], keyed, measure)
    return tuple(
        Measure(id=record.id, total=result[0], weight=result[1])
        for record, result in zip(records, results, strict=True)
        if result is not None
    )


def answered(
    loaded: Loaded,
    cache: ItemCache,
    records: Sequence[Record],
    settings: EvaluateSettings,
    on_progress: Progress = lambda *_: None,
) -> list[tuple[Sample, Answer]]:
    """What the model says where the assistant first spoke, beside what was said there."""
    exchanges = [
        (record, *found) for record in records if (found := first_exchange(record.messages))
    ]
    asked = [one for one in exchanges if loaded.template.takes(Dialogue(one[1], one[0].tools))]
    prompts = [Dialogue(prompt, record.tools) for record, prompt, _ in asked]
    said = replies(loaded, cache, prompts, settings.max_new_tokens, on_progress)
    return [
        (
            Sample(
                id=record.id,
                earlier=prompt[:-1],
                prompt=prompt[-1].content,
                given=given,
                answer=answer.text,
            ),
            answer,
        )
        for (record, prompt, given), answer in zip(asked, said, strict=True)
    ]


def replies(
    loaded: Loaded,
    cache: ItemCache,
    prompts: Sequence[Conversation],
    max_new_tokens: int,
    on_progress: Progress = lambda *_: None,
) -> list[Answer]:
    def measure(missing: Sequence[Conversation]) -> list[Any]:
        found = answers(
            loaded.model,
            loaded.template,
            missing,
            max_new_tokens=max_new_tokens,
            on_progress=on_progress,
        )
        return [answer.model_dump() for answer in found]

    keyed = [
        (digest_json([[m.model_dump() for m in prompt.messages], prompt.tools]), prompt)
        for prompt in prompts
    ]
    return [
        Answer.model_validate(value)
        for value in cache.fill(["answer", max_new_tokens], keyed, measure)
    ]


def first_exchange(messages: Sequence[Message]) -> tuple[tuple[Message, ...], str] | None:
    """What was said before the assistant first answered a user, and what it answered; answers
    that are not to be learnt are no measure."""
    for turn in range(1, len(messages)):
        answer = messages[turn]
        if answer.role == "assistant" and answer.learnt and messages[turn - 1].role == "user":
            return tuple(messages[:turn]), answer.text
    return None


def judged(
    shown: Sequence[tuple[Sample, Answer]],
    settings: EvaluateSettings,
    encoder: Callable[[], Encoder],
    personal: Personal,
) -> dict[MetricName, Measures]:
    """Every metric of answers."""
    if not shown:
        return {}

    def similar(pairs: Pairs) -> list[float]:
        vectors = encoder().encode([text for pair in pairs for text in pair])
        return [
            float(said @ given) for said, given in zip(vectors[::2], vectors[1::2], strict=True)
        ]

    ids = [sample.id for sample, _ in shown]
    pairs = [(sample.answer, sample.given) for sample, _ in shown]
    found = quality(ids, pairs, settings.answer_format, similar)
    private = personal([said for said, _ in pairs])
    return {
        **found,
        "personal data": _shares(ids, private),
        "tokens": tuple(Measure(id=s.id, total=answer.tokens) for s, answer in shown),
        "seconds": tuple(Measure(id=s.id, total=answer.seconds) for s, answer in shown),
    }


def red_team(
    loaded: Loaded, cache: ItemCache, settings: EvaluateSettings, on_progress: Progress
) -> dict[MetricName, Measures]:
    prompts = load_prompts(settings.safety)
    if not prompts:
        return {}
    said = replies(
        loaded,
        cache,
        [Dialogue(one.messages) for one in prompts],
        settings.max_new_tokens,
        on_progress,
    )
    pairs = [(prompt.text, answer.text) for prompt, answer in zip(prompts, said, strict=True)]
    passed = classifier(settings.safety)(pairs)
    refused = [is_refusal(answer) for _, answer in pairs]
    kinds = np.array([prompt.kind for prompt in prompts])
    ids = np.array([prompt.id for prompt in prompts])
    harmful = kinds == "harmful"
    found: dict[MetricName, Measures] = {
        "safe": _shares(ids[harmful].tolist(), np.array(passed)[harmful].tolist()),
        "refused": _shares(ids[~harmful].tolist(), np.array(refused)[~harmful].tolist()),
    }
    return {metric: measures for metric, measures in found.items() if measures}


def verbatim(loaded: Loaded, cache: ItemCache, training: Snapshot, count: int) -> Measures:
    """Whether the model recites training conversations."""

    def measure(_: Sequence[Snapshot]) -> list[list[tuple[str, bool]]]:
        records = list(training.records())
        return [recited(loaded.model, loaded.template, records, count)]

    (found,) = cache.fill(["verbatim", count], [(training.digest, training)], measure)
    return _shares([identifier for identifier, _ in found], [said for _, said in found])


def exposures(
    loaded: Loaded, cache: ItemCache, sets: EvaluationSets, on_progress: Progress
) -> Measures:
    """Bits of exposure of each canary that was planted."""
    settings = sets.canaries

    def measure(_: Sequence[Any]) -> list[list[tuple[str, float]]]:
        found = exposure(
            loaded.model,
            loaded.template,
            settings.canaries(),
            seed=settings.seed,
            candidates=settings.candidates,
            on_progress=on_progress,
        )
        return [[(one.canary, one.bits) for one in found]]

    (found,) = cache.fill("exposure", [(digest_json(settings.model_dump()), None)], measure)
    return tuple(Measure(id=canary, total=bits) for canary, bits in found)


def tasks_of(
    loaded: Loaded, cache: ItemCache, settings: HarnessSettings
) -> dict[str, dict[MetricName, Measures]]:
    """Each task of lm-evaluation-harness as a set of its own."""

    def measure(_: Sequence[Any]) -> list[dict[str, list[Any]]]:
        found = harness(loaded.model, loaded.tokenizer, settings)
        return [{task: [one.model_dump() for one in some] for task, some in found.items()}]

    (found,) = cache.fill("harness", [(digest_json(identity(settings)), None)], measure)
    return {
        task: {"task": tuple(Measure.model_validate(one) for one in some)}
        for task, some in found.items()
    }


def _shares(ids: Sequence[str], yes: Sequence[bool]) -> Measures:
    return tuple(Measure(id=i, total=float(one)) for i, one in zip(ids, yes, strict=True))


def personal_data(policy: ScrubPolicy, detector: BuiltDetector | None) -> Personal:
    """The scrub's own search, in this process."""

    def search(texts: Sequence[str]) -> list[bool]:
        with searching(policy, detector, WorkerSettings(count=0)) as searcher:
            asked = searcher.ask(texts)
            asked.wait()
            return [bool(asked(text)) for text in texts]

    return search


@stage_task(
    "evaluate",
    produces="models/scores",
    description="Losses, answers, safety and privacy of one model.",
)
def evaluate_task(
    base: Base,
    adapter: Adapter | None,
    sets: EvaluationSets,
    settings: EvaluateSettings,
    encoder: EncoderSettings,
    policy: ScrubPolicy,
    detector: BuiltDetector | None,
    workspace: Workspace,
) -> ModelScore:
    return evaluate(
        base,
        adapter,
        sets,
        settings,
        workspace,
        encoder=lambda: shared(encoder),
        personal=personal_data(policy, detector),
        on_progress=StageProgress("evaluate", "items"),
    )
