"""The gate promotes on evidence, not on a smaller number."""

import random

import pytest

from models.score import ItemLoss, mean_loss
from tasks.decide import DecideSettings, decide
from tasks.evaluate import Evaluation, ModelScore


def scored(losses: list[float]) -> ModelScore:
    items = tuple(
        ItemLoss(id=str(n), loss_sum=loss * 10, tokens=10) for n, loss in enumerate(losses)
    )
    loss = mean_loss(items)
    return ModelScore(loss=loss, perplexity=1.0, items=items, samples=())


def evaluation(challenger: list[float], champion: list[float] | None) -> Evaluation:
    return Evaluation(
        challenger=scored(challenger),
        champion=scored(champion) if champion else None,
        base=scored([4.0] * len(challenger)),
    )


_draw = random.Random(3)
NOISE = [_draw.gauss(0, 0.3) for _ in range(60)]


def test_clearly_better_is_promoted() -> None:
    challenger = [3.5 + noise for noise in NOISE]
    verdict = decide(evaluation(challenger, None), DecideSettings(), is_champion=False)
    assert (verdict.decision, verdict.bar) == ("promote", "base")
    gate = verdict.gates[0]
    assert gate.low is not None
    assert gate.high is not None
    assert gate.low <= gate.value <= gate.high < 0


def test_better_by_chance_is_not_promoted() -> None:
    champion = [3.5] * len(NOISE)
    centre = sum(NOISE) / len(NOISE)
    challenger = [3.5 + noise - centre - 0.01 for noise in NOISE]
    verdict = decide(evaluation(challenger, champion), DecideSettings(), is_champion=False)
    assert verdict.gates[0].value < 0
    assert verdict.decision == "keep"


def test_worse_than_the_champion_is_kept_out_though_better_than_base() -> None:
    champion = [3.0 + noise / 10 for noise in NOISE]
    challenger = [3.4 + noise / 10 for noise in NOISE]
    verdict = decide(evaluation(challenger, champion), DecideSettings(), is_champion=False)
    assert (verdict.decision, verdict.bar) == ("keep", "champion")


def test_a_margin_has_to_be_reached() -> None:
    challenger = [3.9 + noise / 10 for noise in NOISE]
    small = DecideSettings(min_improvement=0.01)
    large = DecideSettings(min_improvement=0.3)
    assert decide(evaluation(challenger, None), small, is_champion=False).decision == "promote"
    assert decide(evaluation(challenger, None), large, is_champion=False).decision == "keep"


def test_too_few_conversations_promote_nothing() -> None:
    verdict = decide(evaluation([1.0] * 3, None), DecideSettings(), is_champion=False)
    assert verdict.decision == "keep"
    assert "too few" in verdict.reason


def test_the_champion_itself_is_unchanged() -> None:
    verdict = decide(evaluation([3.0] * 20, [3.0] * 20), DecideSettings(), is_champion=True)
    assert verdict.decision == "unchanged"


def test_models_scored_on_other_items_are_not_compared() -> None:
    broken = evaluation([3.0] * 20, None).model_copy(update={"base": scored([4.0] * 19)})
    with pytest.raises(ValueError, match="same items"):
        decide(broken, DecideSettings(), is_champion=False)
