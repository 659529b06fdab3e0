"""How good an answer is beside the one that was given."""

import json
import re
from collections.abc import Callable, Sequence

from data_contracts.errors import ConfigError
from tasks.evaluate.measures import Measure, MetricName

Pairs = Sequence[tuple[str, str]]


def quality(
    ids: Sequence[str], pairs: Pairs, form: str | None, similar: Callable[[Pairs], Sequence[float]]
) -> dict[MetricName, tuple[Measure, ...]]:
    """Metrics of (answer, given) pairs.

    Args:
        ids: the items'.
        pairs: answers, and what a person said there.
        form: `json` or a regular expression that answers must match as a whole; None for any.
        similar: cosine of each pair's embeddings.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.chrf import CHRF

    rouge, chrf = RougeScorer(["rougeL"]), CHRF()
    values: dict[MetricName, Sequence[float]] = {
        "rouge": [rouge.score(given, said)["rougeL"].fmeasure for said, given in pairs],
        "chrf": [chrf.sentence_score(said, [given]).score / 100 for said, given in pairs],
        "exact": [float(_flat(said) == _flat(given)) for said, given in pairs],
        "similarity": similar(pairs),
    }
    if form is not None:
        values["valid"] = [float(is_valid(said, form)) for said, _ in pairs]
    return {
        metric: tuple(Measure(id=i, total=v) for i, v in zip(ids, numbers, strict=True))
        for metric, numbers in values.items()
    }


def is_valid(answer: str, form: str) -> bool:
    if form != "json":
        return re.fullmatch(form, answer.strip(), re.DOTALL) is not None
    try:
        json.loads(answer)
    except ValueError:
        return False
    return True


def require_form(form: str | None) -> None:
    """Raises ConfigError: it is neither `json` nor a regular expression."""
    try:
        re.compile(form or "")
    except re.error as error:
        raise ConfigError(
            f"evaluate.answer_format is no regular expression ({error})", "correct it, or use json"
        ) from error


def _flat(text: str) -> str:
    return " ".join(text.split()).casefold()
