"""Evaluation of a tiny real model: batched, cached, private; and what spoils a challenger."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError, EvergreenError
from data_contracts.formats import parse_record
from data_contracts.records import Message, Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from models.adapters import Adapter, load_model
from models.base import Base, ModelSettings, resolve_base
from models.encoder import Encoder, EncoderSettings
from models.generate import answer, answers
from models.template import Dialogue, load_template
from tasks.decide import DecideSettings, Verdict, decide
from tasks.evaluate import EvaluateSettings, Evaluation, ModelScore, evaluate, regression
from tasks.evaluate.answers import is_valid, require_form
from tasks.evaluate.measures import mean
from tasks.evaluate.privacy import CanarySettings, plant_canaries
from tasks.evaluate.sets import EvaluationSets, choose, general, slices
from tasks.evaluate.stage import first_exchange
from tasks.ledger.database import Ledger, LedgerSettings
from tasks.split import Split
from tasks.train import TrainSettings, spec_of, train
from tests.commands import evergreen
from tests.tiny import CITIES, conversations, make_tiny_model, write_jsonl

SETTINGS = EvaluateSettings(max_items=60, max_length=96, answers=12, max_new_tokens=12, verbatim=8)
TRAIN = TrainSettings(
    max_length=96, learning_rate=0.005, batch_size=8, max_steps=60, epochs=20, lora_rank=8,
    processes=1, validation_share=0,
)  # fmt: skip
SECRET = "4111"


def records(rows: Sequence[dict[str, Any]], source: str = "chat") -> list[Record]:
    return [parse_record(row, source=source, position=at) for at, row in enumerate(rows)]


def stored(workspace: Workspace, name: str, what: Sequence[Record]) -> Snapshot:
    return write_records(str(workspace.snapshots), name, what, parent=None, provenance={})


def capitals(count: int) -> list[Record]:
    """Another topic, with an answer that the first one's says nothing about."""
    return [
        Record(
            id=f"capital-{number}",
            messages=(
                Message(role="user", content=f"which way to {CITIES[number % 10]}, {number}?"),
                Message(role="assistant", content=f"go by {CITIES[(number + 3) % 10]} and right."),
            ),
            source="ways",
        )
        for number in range(count)
    ]


class Bench:
    """A base, its held-out conversations of two sources, and models tuned from it."""

    def __init__(self, model: Path, workspace: Workspace) -> None:
        self.workspace = workspace
        self.base: Base = resolve_base(
            ModelSettings(base=str(model), dtype="float32"), workspace.models
        )
        self.encoder = Encoder(EncoderSettings())
        weather, ways = records(conversations(200, seed=1)), capitals(120)
        self.holdout = stored(workspace, "holdout", [*weather[:40], *ways[:20]])
        self.learnt = [*weather[40:], *ways[20:]]
        self.general = general(self.base, workspace, 12)

    def tuned(self, what: Sequence[Record], **settings: object) -> tuple[Adapter, Snapshot]:
        training = stored(self.workspace, "train", what)
        chosen = TRAIN.model_copy(update=settings)
        made = train(spec_of(training, self.base, chosen, None, self.workspace), chosen)
        return made.adapter, training

    def score(
        self, adapter: Adapter | None, training: Snapshot, settings: EvaluateSettings = SETTINGS
    ) -> ModelScore:
        sets = EvaluationSets(
            conversations={"holdout": self.holdout, "general": self.general},
            training=training,
            canaries=settings.canaries,
        )
        return evaluate(
            self.base,
            adapter,
            sets,
            settings,
            self.workspace,
            encoder=lambda: self.encoder,
            personal=lambda texts: [SECRET in text for text in texts],
        )

    def verdict(
        self,
        challenger: tuple[Adapter | None, Snapshot],
        champion: Adapter | None,
        settings: EvaluateSettings = SETTINGS,
    ) -> Verdict:
        adapter, training = challenger
        found = Evaluation(
            challenger=self.score(adapter, training, settings),
            champion=champion and self.score(champion, training, settings),
            base=self.score(None, training, settings),
            slices=slices(list(self.holdout.records()), self.encoder),
        )
        return decide(found, DecideSettings())


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    workspace = Workspace(home=tmp_path_factory.mktemp("evaluate"))
    workspace.create()
    return Bench(make_tiny_model(workspace.home / "tiny", head=4), workspace)


@pytest.fixture(scope="module")
def champion(bench: Bench) -> tuple[Adapter, Snapshot]:
    """Tuned a little on both topics."""
    return bench.tuned(bench.learnt, max_steps=120)


def names(verdict: Verdict) -> set[str]:
    return {gate.name for gate in verdict.failed}


def test_a_truly_better_one_passes(bench: Bench, champion: tuple[Adapter, Snapshot]) -> None:
    verdict = bench.verdict(bench.tuned(bench.learnt, max_steps=300), champion[0])
    assert (verdict.decision, names(verdict)) == ("promote", set())


def test_scrambled_answers_are_stopped(bench: Bench, champion: tuple[Adapter, Snapshot]) -> None:
    answers_moved = [record.messages[1] for record in bench.learnt]
    moved = answers_moved[77:] + answers_moved[:77]
    scrambled = [
        record.model_copy(update={"messages": (record.messages[0], other)})
        for record, other in zip(bench.learnt, moved, strict=True)
    ]
    verdict = bench.verdict(bench.tuned(scrambled), champion[0])
    assert verdict.decision == "keep"
    assert "better" in names(verdict)


def test_one_topic_only_is_stopped(bench: Bench, champion: tuple[Adapter, Snapshot]) -> None:
    weather = [record for record in bench.learnt if record.source == "chat"]
    verdict = bench.verdict(bench.tuned(weather), champion[0])
    assert verdict.decision == "keep"
    assert any(gate.slice == "source=ways" for gate in verdict.failed), verdict.reason


def test_memorised_canaries_are_stopped(bench: Bench, champion: tuple[Adapter, Snapshot]) -> None:
    def verdict(times: int) -> Verdict:
        settings = SETTINGS.model_copy(
            update={"canaries": CanarySettings(count=4, times=max(1, times), candidates=63)}
        )
        few = stored(bench.workspace, "train", bench.learnt[:30])
        whole = Split(train=few, holdout=bench.holdout, near_duplicate_groups=0)
        planted = plant_canaries(whole, settings.canaries, bench.workspace).train
        learnt = list(planted.records()) if times else bench.learnt[:30]
        recipe = {"lora_rank": 32, "learning_rate": 1e-2, "epochs": 15, "max_steps": None}
        return bench.verdict(bench.tuned(learnt, **recipe), champion[0], settings)

    assert "canary exposure" in names(verdict(30))
    assert "canary exposure" not in names(verdict(0))


def test_an_adapter_that_does_nothing_is_stopped(bench: Bench) -> None:
    training = stored(bench.workspace, "train", bench.learnt)
    verdict = bench.verdict((None, training), None)
    assert "better" in names(verdict)
    gate = verdict.gates[0]
    assert (gate.value, gate.p_value) == (0.0, 1.0)


def test_known_items_of_a_known_model_cost_nothing(
    bench: Bench, champion: tuple[Adapter, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.score(*champion)
    monkeypatch.setattr("tasks.evaluate.stage.load_model", None)  # it is not even loaded
    assert bench.score(*champion) == first
    monkeypatch.undo()
    longer = SETTINGS.model_copy(update={"max_new_tokens": 13})
    assert bench.score(*champion, longer) != first


def test_batched_answers_are_those_of_one_at_a_time(
    bench: Bench, champion: tuple[Adapter, Snapshot]
) -> None:
    model, template = load_model(bench.base, champion[0]), load_template(bench.base)
    prompts = [found[0] for r in bench.holdout.records() if (found := first_exchange(r.messages))]
    together = answers(model, template, [Dialogue(prompt) for prompt in prompts], max_new_tokens=12)
    alone = [answer(model, template, prompt, max_new_tokens=12) for prompt in prompts]
    assert [one.text for one in together] == alone
    assert all(one.tokens <= 12 for one in together)


def test_every_metric_is_there(bench: Bench, champion: tuple[Adapter, Snapshot]) -> None:
    found = bench.score(*champion)
    assert set(found.measures) == {"holdout", "general", "red team", "training"}
    assert set(found.measures["holdout"]) == {
        "loss", "rouge", "chrf", "exact", "similarity", "personal data", "tokens", "seconds"
    }  # fmt: skip
    assert set(found.measures["general"]) == {"loss"}
    assert 0 < mean(found.of("holdout", "rouge")) <= 1
    assert found.perplexity == pytest.approx(2.718281828**found.loss)
    assert len(found.samples) == 12


def test_the_base_is_best_on_its_own_words(
    bench: Bench, champion: tuple[Adapter, Snapshot]
) -> None:
    base, tuned = bench.score(None, champion[1]), bench.score(*champion)
    assert mean(base.of("general", "loss")) < mean(tuned.of("general", "loss"))


def test_slices_have_source_and_length(bench: Bench) -> None:
    found = slices(list(bench.holdout.records()), bench.encoder)
    assert {one["source"] for one in found.values()} == {"chat", "ways"}
    assert {one["length"] for one in found.values()} == {"short"}


def test_topics_part_what_is_asked(bench: Bench) -> None:
    asked = {
        "cook": ("bake bread", "boil potatoes", "season a soup", "fry an egg", "roast a chicken"),
        "code": (
            "sort a list",
            "parse JSON",
            "open a socket",
            "loop over a dict",
            "raise an error",
        ),
    }
    told = [
        Record(
            id=f"{topic}-{number}",
            messages=(
                Message(role="user", content=f"how do I {what}{' in Python' * (topic == 'code')}?"),
                Message(role="assistant", content=f"step {number}"),
            ),
            source="chat",
        )
        for topic, kinds in asked.items()
        for number, what in enumerate(kinds * 9)
    ]
    found = slices(told, bench.encoder)
    topics = {
        topic: {one["topic"] for name, one in found.items() if name.startswith(topic)}
        for topic in asked
    }
    assert topics["cook"]
    assert topics["code"]
    assert not topics["cook"] & topics["code"]


def test_a_conversation_that_the_assistant_opens_is_asked_where_a_user_spoke() -> None:
    hello, question, reply = (
        Message(role=role, content=text)
        for role, text in (("assistant", "hello"), ("user", "how?"), ("assistant", "so"))
    )
    assert first_exchange((hello, question, reply)) == ((hello, question), "so")
    assert first_exchange((hello, question)) is None


def test_old_and_new_data_are_chosen_in_turn() -> None:
    old = [r.model_copy(update={"source": "replay-old-1"}) for r in records(conversations(30))]
    new = [
        r.model_copy(update={"source": "replay-new-1", "id": f"n{r.id}"})
        for r in records(conversations(6))
    ]
    assert sum(r.source == "replay-new-1" for r in choose([*old, *new], 10)) == 5


def test_formats() -> None:
    assert is_valid('{"a": 1}', "json")
    assert not is_valid("{a}", "json")
    assert is_valid("yes\n", "yes|no")
    assert not is_valid("yes and no", "yes|no")
    with pytest.raises(ConfigError, match="answer_format"):
        require_form("(")


def test_the_regression_set_only_grows(workspace: Workspace) -> None:
    ledger = Ledger(LedgerSettings(), workspace)
    assert regression.current(ledger, "m") is None

    def add(what: list[Record], reason: str) -> regression.Addition:
        return regression.add(ledger, "m", what, workspace, by="me", reason=reason)

    first = add(records(conversations(3)), "wrong city")
    second = add(records(conversations(5)), "wrong weather")
    assert (first.added, second.added) == (3, 2)
    assert add(records(conversations(4)), "again").added == 0
    found = regression.current(ledger, "m")
    assert found == second.snapshot
    assert len(list(found.records())) == 5
    assert [one.reason for one in regression.additions(ledger, "m")] == [
        "wrong weather",
        "wrong city",
    ]
    assert regression.current(ledger, "another") is None


def test_a_failure_is_added_with_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    said = ("--prompt", "mail jane.roe@example.com?", "--answer", "I have.")
    done = evergreen("regression", "add", *said, "--json", home=home)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["added"] == 1
    file = write_jsonl(tmp_path / "more.jsonl", conversations(2))
    assert "holds 3" in evergreen("regression", "add", file, home=home).stdout
    found = regression.current(Ledger(LedgerSettings(), Workspace(home=home)), "evergreen")
    assert found is not None
    text = "".join(record.text for record in found.records())
    assert "jane.roe" not in text
    wrong = evergreen("regression", "add", "--prompt", "only", home=home)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_an_unknown_classifier_is_one_line(
    bench: Bench, champion: tuple[Adapter, Snapshot]
) -> None:
    safety = SETTINGS.safety.model_copy(update={"classifier": "/no/such/model"})
    with pytest.raises(EvergreenError, match="safety classifier"):
        bench.score(*champion, SETTINGS.model_copy(update={"safety": safety}))
