"""Scores made by hand, as evaluations hold them."""

from collections.abc import Mapping, Sequence

from tasks.evaluate.measures import Evaluation, Measure, MetricName, ModelScore

TOKENS = 10


def measured(values: Sequence[float], *, weight: float = 1.0) -> tuple[Measure, ...]:
    return tuple(
        Measure(id=str(number), total=value * weight, weight=weight)
        for number, value in enumerate(values)
    )


def scored(losses: Sequence[float], **more: Mapping[MetricName, Sequence[float]]) -> ModelScore:
    """Held-out losses in nats a token, and `set={metric: values}`; `_` stands for a space."""
    others = {
        name.replace("_", " "): {metric: measured(values) for metric, values in metrics.items()}
        for name, metrics in more.items()
    }
    holdout = {"loss": measured(losses, weight=TOKENS), **others.pop("holdout", {})}
    return ModelScore(measures={"holdout": holdout, **others})


def evaluation(
    challenger: ModelScore, champion: ModelScore | None = None, base: ModelScore | None = None
) -> Evaluation:
    items = challenger.items
    return Evaluation(challenger=challenger, champion=champion, base=base or scored([4.0] * items))
