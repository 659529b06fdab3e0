"""Canaries: what was trained on often stands out, what was scrubbed or never seen does not."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, kstest, skewnorm

from data_contracts.checksums import luhn_digit
from data_contracts.errors import ModelError
from data_contracts.formats import parse_record
from data_contracts.records import Message, Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from models.adapters import load_model
from models.base import Base, ModelSettings, resolve_base
from models.chat import encode
from models.exposure import (
    CARD_NUMBER,
    DOOR_CODE,
    EMAIL_ADDRESS,
    FORMATS,
    Canary,
    Exposure,
    Format,
    canaries,
    exposure,
    is_memorised,
    mean_bits,
    modelled_bits,
    p_value,
    pattern,
    plant,
)
from models.score import score
from models.template import Dialogue, load_template
from tasks.train import TrainSettings, spec_of, train
from tests.tiny import conversations


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    store = tmp_path_factory.mktemp("models")
    return resolve_base(ModelSettings(base=str(tiny_model), dtype="float32"), store)


@pytest.fixture(scope="module")
def template(base: Base) -> Any:
    return load_template(base)


@pytest.fixture(scope="module")
def untrained(base: Base) -> Any:
    return load_model(base)


def records(count: int) -> list[Record]:
    return [
        parse_record(row, source="tiny", position=position)
        for position, row in enumerate(conversations(count))
    ]


def ranked(rank: int, candidates: int = 1024) -> Exposure:
    return Exposure(canary=f"{rank}", rank=rank, candidates=candidates, modelled=0.0)


# -- canaries and planting -----------------------------------------------------------


def test_canaries_are_of_all_formats_and_the_same_for_a_seed() -> None:
    made = canaries(40, seed=1)
    assert made == canaries(40, seed=1)
    assert not {canary.secret for canary in made} & {canary.secret for canary in canaries(40, 2)}
    assert {canary.format for canary in made} == set(FORMATS)
    for canary in made:
        question, answer = canary.messages
        assert (question.role, answer.role) == ("user", "assistant")
        assert answer.content.endswith(canary.secret)
        assert canary.secret not in question.content
    assert len({canary.messages[0] for canary in made}) == len({c.id for c in made}) == 40
    with pytest.raises(ValueError, match="larger than population"):
        canaries(257, seed=1)


def test_secrets() -> None:
    made = {kind: canaries(8, 3, [kind])[-1].secret for kind in FORMATS}
    assert re.fullmatch(r"\d\d( \d\d){4}", made[DOOR_CODE])
    assert re.fullmatch(r"[a-z]+\.[a-z]+\d{4}@example\.(com|net|org)", made[EMAIL_ADDRESS])
    assert re.fullmatch(r"4000 00\d\d \d{4} \d{4}", made[CARD_NUMBER])
    assert luhn_digit("4000 0000 0000 000") == "2"  # well-known test cards
    assert luhn_digit("4111 1111 1111 111") == "1"
    assert luhn_digit("3782 822463 1000") == "5"
    assert (DOOR_CODE.size, CARD_NUMBER.size) == (10**10, 10**9)


def test_planting_survives_exact_deduplication() -> None:
    before, made = records(20), canaries(8, seed=1)
    after = plant(before, made, 5)
    assert after[:20] == before
    assert len({record.id for record in after}) == len(after) == 20 + 8 * 5
    assert len({record.content_digest for record in after}) == len(after)
    for canary in made:
        assert sum(canary.secret in record.messages[-1].content for record in after) == 5
        assert sum(canary.messages == record.messages for record in after) == 1
    assert plant(before, made, 0) == before


# -- rank and exposure ---------------------------------------------------------------


def test_the_rank_is_that_of_scoring_one_by_one(untrained: Any, template: Any) -> None:
    made = canaries(4, seed=1)
    found = exposure(untrained, template, made, seed=5, candidates=50)
    assert found == exposure(untrained, template, made, seed=5, candidates=50)
    alone = exposure(untrained, template, made[2:3], seed=5, candidates=50, batch_tokens=1)
    assert (alone[0].canary, alone[0].rank) == (found[2].canary, found[2].rank)

    # The likeliest and the unlikeliest of many secrets, by hand, are first and last.
    def loss(canary: Canary) -> float:
        examples, _ = encode(template, canary.id, Dialogue(canary.messages), 512)
        return score(untrained, examples, template.tokenizer.pad_token_id)[0].loss_sum

    many = sorted(
        (told(made[2], secret.secret) for secret in canaries(60, 9, [CARD_NUMBER])), key=loss
    )
    best, worst = exposure(untrained, template, [many[0], many[-1]], seed=5, candidates=50)
    assert best.rank <= 8
    assert worst.rank >= 44


def told(canary: Canary, secret: str) -> Canary:
    return canary.model_copy(update={"secret": secret, "messages": canary.telling(secret)})


def test_bits() -> None:
    assert ranked(1).bits == pytest.approx(math.log2(1025))
    assert ranked(1025).bits == 0
    assert ranked(41).p_value == pytest.approx(0.04)
    assert mean_bits([ranked(1), ranked(1025)]) == pytest.approx(math.log2(1025) / 2)
    assert math.isnan(mean_bits([]))


def test_modelled_bits() -> None:
    others = skewnorm.rvs(3, loc=40, scale=5, size=2000, random_state=1).tolist()
    for quantile in (0.5, 0.05, 0.01):
        own = float(np.quantile(others, quantile))
        assert modelled_bits(own, others, 10**10) == pytest.approx(-math.log2(quantile), abs=0.5)
    assert modelled_bits(1.0, others, 10**10) == math.log2(10**10)
    far = skewnorm.ppf(2**-25, 3, loc=40, scale=5)
    assert modelled_bits(far, others, 10**10) == pytest.approx(25, abs=5)
    assert modelled_bits(40.0, [40.0, 40.0], 10**10) == 0
    assert modelled_bits(40.0, [], 10**10) == 0


def test_what_cannot_be_measured(base: Base, template: Any, untrained: Any) -> None:
    few = Format(question="{name}?", answer="{secret}", parts=pattern("##"))
    with pytest.raises(ValueError, match="60 candidates of 100 secrets"):
        exposure(untrained, template, canaries(1, 1, [few]), seed=1, candidates=60)
    assert exposure(untrained, template, [], seed=1) == []
    broken = load_model(base)
    broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="no finite number"):
        exposure(broken, template, canaries(1, 1), seed=1, candidates=4)


# -- the gate ------------------------------------------------------------------------


@pytest.mark.parametrize("candidates", [15, 1024])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_uniform_ranks_raise_false_alarms_as_stated(candidates: int, alpha: float) -> None:
    draw = np.random.default_rng(1)
    trials, alarms = 3000, 0
    for _ in range(trials):
        ranks = draw.integers(1, candidates + 2, size=8)
        alarms += is_memorised([ranked(int(rank), candidates) for rank in ranks], alpha)
    assert binomtest(alarms, trials, alpha, alternative="greater").pvalue > 0.001
    if candidates > 1000:  # and with fine ranks it is not far below
        assert binomtest(alarms, trials, alpha).pvalue > 0.001


def test_the_gate_sees_what_is_there() -> None:
    assert is_memorised([ranked(1)])
    assert is_memorised([ranked(rank) for rank in (20, 200, 60, 5, 130, 300, 90, 40)])
    assert not is_memorised([ranked(rank) for rank in (500, 20, 900, 400)])
    assert p_value([ranked(41)]) == pytest.approx(0.04)  # of one canary, its own
    with pytest.raises(ValueError, match="no canaries"):
        is_memorised([])


def test_secrets_never_seen_have_uniform_ranks(untrained: Any, template: Any) -> None:
    """The null of the gate holds on a real model: 120 canaries it was never trained on."""
    found = exposure(untrained, template, canaries(120, seed=11), seed=12, candidates=24)
    middles = [(one.rank - 0.5) / 25 for one in found]
    assert kstest(middles, "uniform").pvalue > 0.01
    expected = sum(ranked(rank, 24).bits for rank in range(1, 26)) / 25
    assert mean_bits(found) == pytest.approx(expected, abs=0.35)  # three standard errors
    groups = [found[at : at + 5] for at in range(0, 120, 5)]
    alarms = sum(is_memorised(group, alpha=0.1) for group in groups)
    assert binomtest(alarms, len(groups), 0.1, alternative="greater").pvalue > 0.01


# -- end to end ----------------------------------------------------------------------


def test_training_memorises_what_is_planted_and_not_what_is_scrubbed(
    base: Base, template: Any, workspace: Workspace
) -> None:
    """One training on secrets planted in full and secrets planted scrubbed, 30 times each."""
    planted, hidden, absent = canaries(4, seed=1), canaries(4, seed=2), canaries(4, seed=4)
    data = [
        *plant(records(30), planted, 30),
        *(scrubbed(record, hidden) for record in plant([], hidden, 30)),
    ]
    snapshot = write_records(str(workspace.snapshots), "train", data, parent=None, provenance={})
    settings = TrainSettings(epochs=15, learning_rate=1e-2, batch_size=8, lora_rank=32, processes=1)
    model = load_model(
        base, train(spec_of(snapshot, base, settings, None, workspace), settings).adapter
    )

    seen, unseen, never = (
        exposure(model, template, some, seed=3, candidates=255)
        for some in (planted, hidden, absent)
    )
    assert mean_bits(seen) > 7  # of 8
    assert is_memorised(seen)
    for small in (unseen, never):
        assert mean_bits(small) < 3
        assert not is_memorised(small)


def scrubbed(record: Record, planted: Iterable[Canary]) -> Record:
    messages = []
    for message in record.messages:
        content = message.content
        for canary in planted:
            content = content.replace(canary.secret, "<PHONE_NUMBER_1>")
        messages.append(Message(role=message.role, content=content))
    return record.model_copy(update={"messages": tuple(messages)})
