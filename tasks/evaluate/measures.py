"""What is measured of a model: numbers, each of one item of one evaluation set.

Every metric of a model is a ratio over items, sum(total) / sum(weight): nats over tokens for the
loss, points over answers for the rest. So one paired test serves them all.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from data_contracts.records import Message

MetricName = Literal[
    "loss", "rouge", "chrf", "exact", "similarity", "valid", "tokens", "seconds",
    "safe", "refused", "personal data", "verbatim", "exposure", "task", "preferred", "reviewed",
]  # fmt: skip


class Metric(BaseModel):
    """How a metric is read. `pairwise` is measured of two models at once, from -1 to 1, in
    favour of the challenger."""

    model_config = ConfigDict(frozen=True)

    better: Literal["lower", "higher"]
    unit: str
    pairwise: bool = False


METRICS: dict[MetricName, Metric] = {
    "loss": Metric(better="lower", unit="nats a token"),
    "rouge": Metric(better="higher", unit="ROUGE-L"),
    "chrf": Metric(better="higher", unit="chrF"),
    "exact": Metric(better="higher", unit="of answers exact"),
    "similarity": Metric(better="higher", unit="cosine"),
    "valid": Metric(better="higher", unit="of answers in the right form"),
    "tokens": Metric(better="lower", unit="tokens an answer"),
    "seconds": Metric(better="lower", unit="seconds an answer"),
    "safe": Metric(better="higher", unit="of red-team prompts passed"),
    "refused": Metric(better="lower", unit="of harmless prompts refused"),
    "personal data": Metric(better="lower", unit="of answers with personal data"),
    "verbatim": Metric(better="lower", unit="of training answers recited"),
    "exposure": Metric(better="lower", unit="bits"),
    "task": Metric(better="higher", unit="of documents right"),
    "preferred": Metric(better="higher", unit="preference of the judge", pairwise=True),
    "reviewed": Metric(better="higher", unit="preference of reviewers", pairwise=True),
}


class Measure(BaseModel):
    """One metric of one item: its value is total / weight."""

    model_config = ConfigDict(frozen=True)

    id: str
    total: float
    weight: float = 1.0


Measures = tuple[Measure, ...]


def mean(measures: Measures) -> float:
    weight = sum(one.weight for one in measures)
    return sum(one.total for one in measures) / weight if weight else math.nan


class Sample(BaseModel):
    """A model's own answer beside the one that was given. All text is scrubbed."""

    model_config = ConfigDict(frozen=True)

    id: str
    earlier: tuple[Message, ...] = ()
    prompt: str
    given: str
    answer: str

    @property
    def asked(self) -> str:
        """The whole conversation up to the answer."""
        if not self.earlier:
            return self.prompt
        turns = [*((turn.role, turn.text) for turn in self.earlier), ("user", self.prompt)]
        return "\n\n".join(f"{role}: {text}" for role, text in turns)


class ModelScore(BaseModel):
    """All that was measured of one model: {evaluation set: {metric: a number an item}}."""

    model_config = ConfigDict(frozen=True)

    measures: dict[str, dict[MetricName, Measures]]
    samples: tuple[Sample, ...] = ()

    def of(self, name: str, metric: MetricName) -> Measures:
        """Empty if that was not measured."""
        return self.measures.get(name, {}).get(metric, ())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def loss(self) -> float:
        """Held-out loss, nats a supervised token."""
        return mean(self.of("holdout", "loss"))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def perplexity(self) -> float:
        """exp of the held-out loss."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @computed_field  # type: ignore[prop-decorator]
    @property
    def items(self) -> int:
        """Held-out conversations that were scored."""
        return len(self.of("holdout", "loss"))

    @property
    def means(self) -> dict[str, float]:
        """{`set: metric`: mean} of everything."""
        return {
            f"{name}: {metric}": mean(measures)
            for name, metrics in self.measures.items()
            for metric, measures in metrics.items()
        }


class Evaluation(BaseModel):
    """The same items measured of each model; `champion` is None before there is one."""

    model_config = ConfigDict(frozen=True)

    challenger: ModelScore
    champion: ModelScore | None
    base: ModelScore
    slices: dict[str, dict[str, str]] = Field(
        default={}, description="{item id: {dimension: value}}: source, length, language, ..."
    )
    pairwise: dict[MetricName, Measures] = Field(
        default={}, description="Challenger against the bar, as a judge or people see it."
    )
    sets: dict[str, str] = Field(
        default={}, description="{evaluation set: digest of its snapshot}: what was scored."
    )

    @property
    def bar(self) -> tuple[str, ModelScore]:
        """Who has to be beaten: the champion, or on the first run the base model."""
        return ("champion", self.champion) if self.champion else ("base", self.base)

    @property
    def scores(self) -> dict[str, ModelScore]:
        """{role: score} of the models there are, the challenger first."""
        found = {
            "challenger": self.challenger,
            "champion": self.champion,
            "base": self.base,
        }
        return {role: score for role, score in found.items() if score is not None}

    @property
    def after_drift(self) -> bool:
        """Whether there is new data to be better on, and old data not to be worse on."""
        return any("data" in dimensions for dimensions in self.slices.values())
