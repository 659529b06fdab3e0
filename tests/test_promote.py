"""Promotion against a real MLflow registry: once, in order, and never over another's head."""

from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import RegistryError
from data_contracts.snapshots import RowAccount, Snapshot
from data_contracts.workspace import Workspace
from models.adapters import Adapter
from models.base import Base
from models.score import ItemLoss
from models.spec import FinetuneMetrics
from tasks import registry
from tasks.decide import Decision, Verdict
from tasks.evaluate import Evaluation, ModelScore
from tasks.promote import Promotion, promote
from tasks.tracking import TrackingSettings, connect
from tasks.train import Trained

NAME = "evergreen"
SCORE = ModelScore(
    loss=1.0, perplexity=2.7, items=(ItemLoss(id="a", loss_sum=1.0, tokens=1),), samples=()
)
METRICS = FinetuneMetrics(
    steps=1, processes=1, conversations=1, skipped=0, truncated=0, tokens_cut=0, tokens=1,
    supervised_tokens=1, trainable_parameters=1, first_loss=1, last_loss=1, probe_loss=1,
    packed=True, resumed_from=(), best_step=1, peak_memory_bytes=1, start_seconds=1,
    probe_ids=(), train_seconds=1, total_seconds=1, tokens_per_second=1, device="cpu",
    dtype="float32",
)  # fmt: skip
BASE = Base(
    id="tiny", revision=None, path="/none", digest="b", tokenizer_digest="t", dtype="float32"
)
HOLDOUT = Snapshot(path="/none", digest="h", account=RowAccount(rows_in=1, rows_out=1))


class Registry:
    """A registry on SQLite and the adapters put into it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.client: Any = connect(TrackingSettings(), workspace)
        experiment = self.client.get_experiment_by_name("evergreen")
        self.run_id = self.client.create_run(experiment.experiment_id).info.run_id

    def adapter(self, name: str) -> Adapter:
        folder = self.workspace.home / name / "adapter"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(name)
        return Adapter.at(folder)

    def promote(self, name: str, decision: Decision, judged_against: str | None) -> Promotion:
        return promote(
            self.client,
            NAME,
            trained=Trained(adapter=self.adapter(name), metrics=METRICS),
            evaluation=Evaluation(challenger=SCORE, champion=None, base=SCORE),
            verdict=Verdict(decision=decision, bar="base", gates=(), reason="because"),
            base=BASE,
            train=HOLDOUT,
            holdout=HOLDOUT,
            run_id=self.run_id,
            judged_against=judged_against,
            tags={},
        )

    def aliases(self) -> dict[str, str]:
        return {
            alias: version.version
            for version in registry.versions(self.client, NAME)
            for alias in version.aliases
        }


@pytest.fixture
def models(workspace: Workspace) -> Registry:
    return Registry(workspace)


def test_champion_and_previous_move_together(models: Registry) -> None:
    assert models.promote("first", "promote", None).champion == "1"
    assert models.promote("second", "promote", "1").previous == "1"
    assert models.aliases() == {"champion": "2", "previous": "1"}


def test_a_challenger_that_is_kept_out_is_registered(models: Registry) -> None:
    models.promote("first", "promote", None)
    kept = models.promote("second", "keep", "1")
    assert (kept.version, kept.champion, kept.changed) == ("2", "1", False)
    assert models.aliases() == {"champion": "1", "challenger": "2"}
    promoted = models.promote("second", "promote", "1")
    assert promoted.version == "2"
    assert registry.find(models.client, NAME, "2").decision == "promote"
    models.promote("second", "unchanged", "2")
    assert registry.find(models.client, NAME, "2").decision == "promote"
    assert models.aliases() == {"champion": "2", "previous": "1"}


def test_repeating_changes_nothing(models: Registry) -> None:
    first = models.promote("first", "promote", None)
    again = models.promote("first", "promote", None)
    assert (again.version, again.changed) == (first.version, False)
    assert len(registry.versions(models.client, NAME)) == 1


def test_a_champion_that_changed_since_the_verdict_is_not_overthrown(models: Registry) -> None:
    models.promote("first", "promote", None)
    models.promote("second", "promote", "1")
    for stale in (None, "1"):
        with pytest.raises(RegistryError, match="changed while this challenger was judged"):
            models.promote("third", "promote", stale)
    assert models.aliases() == {"champion": "2", "previous": "1"}


def test_files_that_are_not_those_registered_are_refused(models: Registry) -> None:
    models.promote("first", "promote", None)
    version = registry.find(models.client, NAME, "champion")
    assert registry.load(version).base == BASE
    for stored in Path(models.workspace.mlflow).rglob("adapter_model.safetensors"):
        stored.write_text("tampered")
    with pytest.raises(RegistryError, match="not the one that was registered"):
        registry.load(version)
    with pytest.raises(RegistryError, match="no version 9"):
        registry.find(models.client, NAME, "9")
