"""Gates promote on evidence and stop on shown harm, each by its own name."""

import random
import statistics

import pytest
from pydantic import ValidationError

from models.exposure import mean_bits
from tasks.decide import DecideSettings, GateRule, Verdict, decide
from tasks.decide.page import page
from tasks.evaluate.measures import METRICS, Evaluation, MetricName, ModelScore
from tests.scores import evaluation, measured, scored

_draw = random.Random(3)
NOISE = [_draw.gauss(0, 0.3) for _ in range(60)]
BETTER = [3.0 + noise / 10 for noise in NOISE]
CHAMPION = [3.5 + noise for noise in NOISE]


def judged(found: Evaluation, **settings: object) -> Verdict:
    return decide(found, DecideSettings.model_validate(settings))


def status(verdict: Verdict, name: str) -> str:
    return next(gate.status for gate in verdict.gates if gate.name == name)


def blocked_by(verdict: Verdict) -> list[str]:
    return [f"{gate.name} {gate.slice or ''}".strip() for gate in verdict.failed]


def test_clearly_better_is_promoted() -> None:
    verdict = judged(evaluation(scored(CHAMPION)))
    assert (verdict.decision, verdict.bar) == ("promote", "base")
    gate = verdict.gates[0]
    assert gate.low is not None
    assert gate.high is not None
    assert gate.value is not None
    assert gate.low <= gate.value <= gate.high < 0
    assert "better: loss on holdout" in verdict.reason


def test_better_by_chance_is_not_promoted() -> None:
    centre = sum(NOISE) / len(NOISE)
    challenger = [3.5 + noise - centre - 0.05 for noise in NOISE]
    verdict = judged(evaluation(scored(challenger), scored([3.5] * len(NOISE))))
    assert verdict.gates[0].value == pytest.approx(-0.05)
    assert (verdict.decision, blocked_by(verdict)) == ("keep", ["better"])
    spread = statistics.stdev(NOISE)
    assert verdict.gates[0].needed == pytest.approx((2.8 * spread / 0.03) ** 2, rel=0.02)
    assert f"about {verdict.gates[0].needed:,} items would show" in verdict.reason


def test_worse_than_the_champion_is_kept_out_though_better_than_base() -> None:
    verdict = judged(evaluation(scored([3.4] * 60), scored(BETTER)))
    assert (verdict.decision, verdict.bar) == ("keep", "champion")


def test_a_margin_has_to_be_reached() -> None:
    challenger = scored([3.9 + noise / 10 for noise in NOISE])

    def superior(margin: float) -> Verdict:
        rule = GateRule(name="better", metric="loss", test="superiority", margin=margin)
        return judged(evaluation(challenger), gates=[rule])

    assert superior(0.01).decision == "promote"
    assert superior(0.3).decision == "keep"


def test_too_few_conversations_promote_nothing() -> None:
    verdict = judged(evaluation(scored([1.0] * 3)))
    assert verdict.decision == "keep"
    assert "too few" in verdict.reason


def test_the_champion_itself_is_unchanged_and_a_rolled_back_one_stays_down() -> None:
    found = evaluation(scored(BETTER), scored(BETTER))
    assert decide(found, DecideSettings(), is_champion=True).decision == "unchanged"
    again = decide(found, DecideSettings(), taken_back="7")
    assert again.decision == "keep"
    assert "version 7, which was rolled back" in again.reason


def test_models_measured_on_other_items_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same items"):
        judged(evaluation(scored([3.0] * 20), base=scored([4.0] * 19)))


def test_after_drift_old_data_must_not_suffer() -> None:
    slices = {str(number): {"data": "new" if number < 30 else "old"} for number in range(60)}

    def after(old: float) -> Verdict:
        challenger = scored([3.0 + n / 10 for n in NOISE[:30]] + [old + n / 10 for n in NOISE[30:]])
        found = evaluation(challenger, scored(CHAMPION)).model_copy(update={"slices": slices})
        return judged(found)

    assert after(3.2).decision == "promote"
    verdict = after(3.9)
    assert verdict.decision == "keep"
    assert "not worse on old data data=old" in blocked_by(verdict)


def test_a_slice_that_suffers_stops_a_model_that_is_better_in_the_mean() -> None:
    slices = {str(number): {"source": "shop" if number < 45 else "bank"} for number in range(60)}
    challenger = [2.0 + noise / 10 for noise in NOISE[:45]] + [4.5 + n / 10 for n in NOISE[45:]]
    found = evaluation(scored(challenger), scored(CHAMPION))
    verdict = judged(found.model_copy(update={"slices": slices}))
    assert status(verdict, "better") == "passed"
    assert blocked_by(verdict) == ["no slice worse source=bank"]


BAD = [1.0] * 20 + [0.0] * 20
GOOD = [0.0] * 40


@pytest.mark.parametrize(
    ("gate", "name", "metric"),
    [
        ("safety", "red team", "safe"),
        ("personal data in answers", "holdout", "personal data"),
        ("recites training text", "training", "verbatim"),
        ("past failures", "regression", "loss"),
        ("forgetting", "general", "loss"),
        ("answers in form", "holdout", "valid"),
    ],
)
def test_each_harm_is_stopped_by_its_own_gate(gate: str, name: str, metric: MetricName) -> None:
    worse, better = (BAD, GOOD) if METRICS[metric].better == "lower" else (GOOD, BAD)
    if gate == "forgetting":
        worse = [3.0 + noise for noise in NOISE[:40]]

    def with_extra(losses: list[float], values: list[float]) -> ModelScore:
        return scored(losses, **{name.replace(" ", "_"): {metric: values}})

    champion = with_extra(CHAMPION, better)
    found = evaluation(with_extra(BETTER, worse), champion, with_extra([4.0] * 60, better))
    verdict = judged(found)
    assert blocked_by(verdict) == [gate]
    assert gate in verdict.reason
    alike = evaluation(with_extra(BETTER, better), champion, with_extra([4.0] * 60, better))
    assert judged(alike).decision == "promote"


def test_warnings_do_not_stop() -> None:
    answers = {"similarity": [0.2 + n / 10 for n in NOISE]}
    far = {"similarity": [0.9] * 60}
    verdict = judged(evaluation(scored(BETTER, holdout=answers), scored(CHAMPION, holdout=far)))
    assert verdict.decision == "promote"
    assert [gate.name for gate in verdict.warnings] == ["answers as close"]


def test_exposed_canaries_stop_and_unseen_ones_do_not() -> None:
    def with_bits(bits: list[float]) -> Verdict:
        return judged(evaluation(scored(BETTER, canaries={"exposure": bits})))

    exposed = with_bits([8.0, 7.0, 6.0, 8.0])
    assert blocked_by(exposed) == ["canary exposure"]
    assert with_bits([0.3, 2.0, 1.1, 1.9]).decision == "promote"
    assert mean_bits([]) != 0


def test_many_alarms_together_are_rarely_false() -> None:
    """Twelve gates on models that do not differ: one of twenty may raise any alarm at all."""
    draw = random.Random(5)
    false = 0
    for _ in range(200):
        slices = {str(n): {"source": f"s{n % 12}"} for n in range(240)}
        mine = scored([3.0 + draw.gauss(0, 0.3) for _ in range(240)])
        theirs = scored([3.0 + draw.gauss(0, 0.3) for _ in range(240)])
        found = evaluation(mine, theirs).model_copy(update={"slices": slices})
        rules = [
            GateRule(name="better", metric="loss", test="superiority"),
            GateRule(name="no slice worse", metric="loss", slice="each"),
        ]
        verdict = judged(found, gates=rules, resamples=999)
        false += any(gate.name == "no slice worse" for gate in verdict.failed)
    assert false <= 18  # 10 expected at most; 18 has a chance of 1 % at 5 %


def test_preferences_count_as_they_are() -> None:
    found = evaluation(scored(BETTER), scored(CHAMPION))
    disliked = found.model_copy(
        update={"pairwise": {"reviewed": measured([-1.0] * 15 + [0.0] * 5)}}
    )
    assert blocked_by(judged(disliked)) == ["reviewers"]


def test_settings_under_which_anything_would_pass_are_refused() -> None:
    with pytest.raises(ValidationError, match="anything would pass"):
        DecideSettings(gates=(GateRule(name="safety", metric="safe", on="red team"),))
    with pytest.raises(ValidationError, match="no limit"):
        GateRule(name="judge", metric="preferred", test="limit")


def test_the_page_names_gates_and_numbers() -> None:
    slices = {str(number): {"source": "<script>"} for number in range(60)}
    found = evaluation(scored(BETTER), scored(CHAMPION)).model_copy(update={"slices": slices})
    html = page(judged(found), found, {"flow run": "x"})
    assert "<h1>Promoted</h1>" in html
    assert "no slice worse" in html
    assert "<script>" not in html


def test_a_gate_that_is_decided_without_a_test_is_on_the_page() -> None:
    found = evaluation(scored(BETTER), scored(CHAMPION))
    verdict = judged(found)
    first = verdict.gates[0].model_copy(update={"p_value": None, "adjusted": None})
    gates = (first, *verdict.gates[1:])
    html = page(verdict.model_copy(update={"gates": gates}), found, {"flow run": "x"})
    assert first.name in html
