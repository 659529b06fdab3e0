"""A real MLflow registry and ledger on SQLite, and adapters to put into them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_contracts.snapshots import RowAccount, Snapshot
from data_contracts.workspace import Workspace
from models.adapters import Adapter, save_adapter
from models.base import Base, ModelSettings, load_weights, resolve_base
from models.spec import FinetuneMetrics
from tasks import registry
from tasks.decide import Decision, Verdict
from tasks.evaluate import Evaluation, Measure, ModelScore
from tasks.ledger import promotions
from tasks.ledger.database import Ledger, LedgerSettings
from tasks.promote import Promotion, promote
from tasks.tracking import TrackingSettings, connect
from tasks.train import Trained

SCORE = ModelScore(measures={"holdout": {"loss": (Measure(id="a", total=1.0),)}})
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


class Intercepted:
    """An MlflowClient that calls `before(method, *arguments)` before each of its methods."""

    def __init__(self, client: Any, before: Callable[..., None]) -> None:
        self._client, self._before = client, before

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self._before(name, *arguments)
            return getattr(self._client, name)(*arguments, **named)

        return call


class Registry:
    """One registered model, and the adapters put into it."""

    def __init__(self, workspace: Workspace, name: str = "evergreen", base: Base = BASE) -> None:
        self.workspace, self.name, self.base = workspace, name, base
        self.client: Any = connect(TrackingSettings(), workspace)
        self.ledger = Ledger(LedgerSettings(), workspace)
        experiment = self.client.get_experiment_by_name("evergreen")
        self.run_id = self.client.create_run(experiment.experiment_id).info.run_id

    def adapter(self, name: str) -> Adapter:
        """One that loads if it was made by `real_adapter`, else only a file with a name in it."""
        folder = self.workspace.home / name / "adapter"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            (folder / "adapter_model.safetensors").write_text(name)
        return Adapter.at(folder)

    def promote(
        self,
        name: str,
        decision: Decision,
        judged_against: str | None,
        *,
        client: Any = None,
        ledger: Ledger | None = None,
    ) -> Promotion:
        return promote(
            client or self.client,
            self.name,
            trained=Trained(adapter=self.adapter(name), metrics=METRICS),
            evaluation=Evaluation(challenger=SCORE, champion=None, base=SCORE),
            verdict=Verdict(decision=decision, bar="base", gates=(), reason="because"),
            base=self.base,
            train=HOLDOUT,
            holdout=HOLDOUT,
            run_id=self.run_id,
            judged_against=judged_against,
            tags={},
            ledger=ledger or self.ledger,
            by="a test",
        )

    def aliases(self) -> dict[str, str]:
        return {
            alias: version.version
            for version in registry.versions(self.client, self.name)
            for alias in version.aliases
        }

    def history(self) -> list[promotions.PromotionEntry]:
        return promotions.history(self.ledger, self.name)

    def done(self) -> list[tuple[str, str]]:
        """(action, version) of what was carried out, in order."""
        return [
            (one.action, one.version) for one in reversed(self.history()) if one.state == "done"
        ]

    def settle(self) -> list[promotions.PromotionEntry]:
        return promotions.settle(self.client, self.ledger, self.name)

    def set_alias(self, alias: str, version: str) -> None:
        """As somebody does in MLflow's own page."""
        self.client.set_registered_model_alias(self.name, alias, version)

    def damage(self, version: str) -> None:
        loaded = registry.load(registry.find(self.client, self.name, version))
        (Path(loaded.adapter.path) / "adapter_model.safetensors").write_text("damaged")

    def check(self) -> None:
        """Settled: aliases and history say the same, and all that is named loads."""
        assert self.settle() == []
        aliases = self.aliases()
        for version in set(aliases.values()):
            registry.load(registry.find(self.client, self.name, version))
        states = {entry.state for entry in self.history()}
        assert "intended" not in states
        last = next((entry for entry in self.history() if entry.state == "done"), None)
        assert aliases.get("champion") == (last and last.version)
        if last is not None and last.action != "outside":
            assert aliases.get("previous") == last.before
        assert len(set(aliases.values())) == len(aliases)


def real_base(model: Path, workspace: Workspace) -> Base:
    return resolve_base(ModelSettings(base=str(model), dtype="float32"), workspace.models)


def real_adapter(workspace: Workspace, base: Base, name: str, seed: int) -> None:
    """An adapter that changes what the base says, where `Registry.adapter(name)` finds it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        load_weights(base),
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(seed)
    for parameter, values in model.named_parameters():
        if "lora_B" in parameter:
            torch.nn.init.normal_(values, std=0.1)
    save_adapter(model, workspace.home / name / "adapter", base)
