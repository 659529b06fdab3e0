"""Lineage leads back to the data, the card holds what was measured, `why` says what decided."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from data_contracts.errors import RegistryError
from data_contracts.formats import Readings
from data_contracts.records import Message, Record
from data_contracts.snapshots import RowAccount, write_records
from data_contracts.workspace import Workspace
from models.adapters import Adapter
from models.base import BUNDLED, Base
from models.spec import FinetuneMetrics
from tasks import lineage as lineages
from tasks import tracking
from tasks.card import model_card
from tasks.decide import DecideSettings, Verdict, decide
from tasks.documents import documents
from tasks.evaluate import Evaluation, Measure, MetricName, ModelScore
from tasks.ledger import requests
from tasks.ledger.database import Ledger, LedgerSettings
from tasks.ledger.promotions import Action, PromotionEntry
from tasks.ledger.requests import Request
from tasks.lineage import Lineage, lineage
from tasks.registry import Version, find
from tasks.scrub import ScrubReport
from tasks.scrub.audit import Audit
from tasks.split import Split, SplitSettings, split
from tasks.why import why
from tests.registries import METRICS, Registry

SECRET = "the quick brown fox"
BASE = Base(
    id=BUNDLED, revision=None, path="/models/smollm2", digest="b" * 64, tokenizer_digest="t" * 64,
    dtype="auto",
)  # fmt: skip
HUB = Base(
    id="org/base", revision="v1", path="/hub/models--org--base/snapshots/1", digest="b" * 64,
    tokenizer_digest="t" * 64, dtype="bfloat16",
)  # fmt: skip
TRAINED = METRICS.model_copy(
    update={"processes": 2, "train_seconds": 600.0, "total_seconds": 700.0, "tokens": 1234}
)


@dataclass(frozen=True)
class Run:
    """What a retrain's report has."""

    request: Request
    scrub: ScrubReport
    evaluation: Evaluation
    training: FinetuneMetrics = TRAINED
    mlflow_run_id: str = "mlflow-run"
    flow_run_id: str = "flow-run"
    flow_run_url: str = "http://prefect/flow-run"
    seconds: float = 1800.0


def measures(values: Sequence[float]) -> tuple[Measure, ...]:
    return tuple(Measure(id=str(at), total=value) for at, value in enumerate(values))


def score(loss: float, safe: float) -> ModelScore:
    found: dict[str, dict[MetricName, tuple[Measure, ...]]] = {
        "holdout": {"loss": measures([loss + at % 5 / 50 for at in range(40)])},
        "red team": {"safe": measures([float(at < safe * 40) for at in range(40)])},
    }
    return ModelScore(measures=found)


def evaluated(loss: float = 2.0, safe: float = 1.0) -> Evaluation:
    """A challenger of that loss and safety, against a champion of loss 2.5 that is safe."""
    topics = {str(at): {"topic": f"{SECRET} {at // 20}"} for at in range(40)}
    return Evaluation(
        challenger=score(loss, safe),
        champion=score(2.5, 1.0),
        base=score(3.0, 1.0),
        slices=topics,
        sets={"holdout": "h" * 64},
    )


@pytest.fixture
def parts(workspace: Workspace) -> Split:
    """Snapshots as the stages make them, one of the other."""
    records = [
        Record(
            id=f"r{at}",
            messages=(
                Message(role="user", content=f"{SECRET} {at}"),
                Message(role="assistant", content=f"jumps {at * 7919} times"),
            ),
            source="talks",
        )
        for at in range(40)
    ]
    root = str(workspace.snapshots)
    scrubbed = write_records(
        root, "scrub", records, parent=None,
        provenance={"policy": "p" * 64, "policy_version": "2", "detector": "d" * 64, "key": "k"},
    )  # fmt: skip
    validated = write_records(
        root, "validate", records, parent=scrubbed.digest,
        provenance={"contract": "conversations", "contract_version": "1.0.0"},
    )  # fmt: skip
    return split(validated, SplitSettings(), workspace)


def led(workspace: Workspace, parts: Split, evaluation: Evaluation, base: Base = BASE) -> Lineage:
    ledger = Ledger(LedgerSettings(), workspace)
    with ledger.transaction("evergreen") as connection:
        request, _ = requests.ask(
            connection, model="evergreen", champion="3", episode="window-9", trigger="drift",
            reason="three windows in a row have drifted", evidence={},
        )  # fmt: skip
    report = ScrubReport(
        account=RowAccount(rows_in=40, rows_out=40), policy_digest="p" * 64, findings={},
        quarantined={}, labelled={}, covered={},
        readings=Readings(
            formats={"OpenAI chat": 30, "Alpaca": 10}, unlearnt={"weight: 0": 7},
            unread={"customer_segment": 40},
        ),
        audit=Audit(records=400, planted={"PERSON": 400}, replaced={"PERSON": 396}),
    )  # fmt: skip
    return lineage(
        Run(request, report, evaluation),
        base=base,
        adapter=Adapter(path="/adapter", digest="a" * 64),
        parts=parts,
        champion="3",
        price_per_hour=3.0,
        version="4",
    )


def judged(evaluation: Evaluation) -> Verdict:
    return decide(evaluation, DecideSettings())


# -- lineage ---------------------------------------------------------------------------


def test_lineage_leads_back_to_the_scrub(workspace: Workspace, parts: Split) -> None:
    found = led(workspace, parts, evaluated())
    for chain, part in ((found.train, parts.train), (found.holdout, parts.holdout)):
        assert [made.stage for made in chain][1:] == ["validate", "scrub"]
        assert chain[0].digest == part.digest
        assert [made.parent for made in chain] == [*(made.digest for made in chain[1:]), None]
    assert found.train[0].account.rows_out + found.holdout[0].account.rows_out == 40
    assert (found.contract, found.contract_version) == ("conversations", "1.0.0")
    assert (found.scrub.policy_version, found.scrub.detector) == ("2", "d" * 64)
    assert found.scrub.key == "k"
    assert found.asked.episode == "window-9"
    assert Lineage.model_validate_json(found.model_dump_json()) == found
    assert SECRET not in found.model_dump_json()


def test_what_is_gone_is_left_out(workspace: Workspace, parts: Split) -> None:
    for folder in workspace.snapshots.glob("scrub-*"):
        shutil.rmtree(folder)
    found = led(workspace, parts, evaluated())
    assert [made.stage for made in found.train] == ["train", "validate"]
    assert (found.scrub.policy, found.scrub.policy_version) == ("p" * 64, "")
    shutil.rmtree(workspace.snapshots)
    found = led(workspace, parts, evaluated())
    assert [(made.stage, made.digest) for made in found.train] == [("", parts.train.digest)]
    assert found.contract == ""


def test_cost_and_leak(workspace: Workspace, parts: Split) -> None:
    found = led(workspace, parts, evaluated())
    assert found.cost.device_hours == pytest.approx(2 * 1800 / 3600)
    assert found.cost.money == pytest.approx(3.0)
    assert found.training.seconds == 600
    leak = found.scrub.leak
    assert leak is not None
    assert leak.low < leak.rate == 0.01 < leak.high


def test_the_code_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(lineages.__file__).parent
    code = lineages.code()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    ).stdout.strip()
    known = subprocess.run(
        ["git", "ls-files", "--error-unmatch", "lineage.py"], cwd=here, capture_output=True,
        check=False,
    )  # fmt: skip
    assert code.commit is None if known.returncode else str(code.commit).startswith(head)
    assert len(code.digest) == 64
    # A file that lies in a checkout without being part of it, and no git at all.
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "one.py").touch()
    assert lineages._commit(tmp_path / "one.py") is None
    monkeypatch.setenv("PATH", "")
    assert lineages._commit(here / "lineage.py") is None
    assert set(lineages.libraries(["torch", "no-such-library"])) == {"torch"}


# -- the card --------------------------------------------------------------------------


def test_the_card_is_one_that_the_hub_reads(
    workspace: Workspace, parts: Split, tmp_path: Path
) -> None:
    evaluation = evaluated(safe=0.4)
    verdict = judged(evaluation)
    come_from = led(workspace, parts, evaluation, HUB)
    (tmp_path / "README.md").write_text(model_card(come_from, evaluation, verdict), "utf-8")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.base_model == "org/base"
    assert card.data.pipeline_tag == "text-generation"
    results = {(one.dataset_name, one.metric_type): one for one in card.data.eval_results}
    assert results["holdout", "loss"].metric_value == pytest.approx(evaluation.challenger.loss)
    assert results["holdout", "loss"].dataset_revision == "h" * 64
    assert results["red team", "safe"].metric_value == 0.4
    for gate in verdict.gates:
        assert f"| {gate.name} |" in card.text
        if gate.low is not None:
            assert f"{gate.low:+.3f} to {gate.high:+.3f}" in card.text
    assert "| safety | all |" in card.text
    assert "stops the promotion" in card.text
    assert "1.0% (95% interval" in card.text
    assert "formats of the rows: OpenAI chat (30), Alpaca (10)\n" in card.text
    assert "answers in them that were not learnt: weight: 0 (7)\n" in card.text
    assert "customer_segment" not in card.text  # a stranger need not know what else the rows say
    assert "40 red-team prompts" in card.text
    assert 'from_pretrained("org/base", revision="v1", dtype="bfloat16")' in card.text
    for digest in (come_from.adapter, parts.train.digest, come_from.code.digest):
        assert digest in card.text
    # Neither a conversation's text nor the words that a topic is named by.
    assert SECRET not in str(card)
    assert "| topic 1 |" in card.text


def test_a_base_that_the_hub_does_not_have(workspace: Workspace, parts: Split) -> None:
    evaluation = evaluated()
    own = BASE.model_copy(update={"id": "/models/own"})
    card = ModelCard(
        model_card(led(workspace, parts, evaluation, own), evaluation, judged(evaluation))
    )
    assert card.data.get("base_model") is None
    card = ModelCard(model_card(led(workspace, parts, evaluation), evaluation, judged(evaluation)))
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"


# -- why -------------------------------------------------------------------------------

VERSION = Version(
    name="evergreen", version="4", aliases=("previous",), adapter_digest="a" * 64, holdout_loss=2.0,
    decision="promote", reason="", request="", run_id="", created_at=0,
)  # fmt: skip


def entry(number: int, action: Action, version: str, before: str) -> PromotionEntry:
    return PromotionEntry(
        id=number,
        model="evergreen",
        at=datetime(2026, 11, 25, number, tzinfo=UTC),
        action=action,
        version=version,
        before=before,
        state="done",
        by="ann",
        reason=f"because {number}",
    )


def test_why_a_version_was_promoted_and_taken_back(workspace: Workspace, parts: Split) -> None:
    evaluation = evaluated()
    verdict = judged(evaluation)
    history = [
        entry(3, "rollback", "3", "4"),
        entry(2, "promote", "4", "3"),
        entry(1, "promote", "3", "2"),
    ]
    text = why(VERSION, led(workspace, parts, evaluation), verdict, history)
    assert "drift, episode window-9" in text
    assert "three windows in a row have drifted" in text
    assert "It had to beat the champion, version 3." in text
    assert "Decision: promoted; approved by the gates alone." in text
    assert "Failed" not in text
    assert "1.00 device hours, 3.00 at 3 an hour" in text
    assert "it became champion in place of version 3 (promote by ann)" in text
    assert "version 3 became champion in its place (rollback by ann): because 3" in text
    assert "because 1" not in text
    assert 10 <= len(text.splitlines()) <= 25
    approved = verdict.model_copy(update={"reason": f"{verdict.reason}; approved by ann: fine"})
    text = why(VERSION, led(workspace, parts, evaluation), approved)
    assert "Decision: promoted; approved by ann: fine." in text
    assert "it was never champion" in text


def test_why_names_each_gate_that_failed(workspace: Workspace, parts: Split) -> None:
    evaluation = evaluated(loss=2.9, safe=0.2)
    verdict = judged(evaluation)
    text = why(VERSION, led(workspace, parts, evaluation), verdict)
    stops = text.partition("Failed, which stops it:")[2]
    assert len(verdict.failed) >= 3
    for gate in verdict.failed:
        assert f"  - {gate.name}," in stops
        assert f"{gate.value:+.3f} {gate.unit}" in stops
    assert "Decision: not promoted." in text
    unknown = {gate.name for gate in verdict.gates if gate.status == "not measured"}
    line = next(line for line in text.splitlines() if line.startswith("Not measured: "))
    assert set(line.removeprefix("Not measured: ").removesuffix(".").split(", ")) == unknown


def test_why_on_the_command_line(
    workspace: Workspace, parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli import app

    monkeypatch.setenv("EVERGREEN_HOME", str(workspace.home))
    models = Registry(workspace)
    models.promote("first", "promote", None)
    with pytest.raises(RegistryError, match=r"before Evergreen kept lineage\.json"):
        _ = documents(models.client, find(models.client, models.name, "1")).lineage
    evaluation = evaluated()
    come_from, verdict = led(workspace, parts, evaluation), judged(evaluation)
    tracking.log_results(
        models.client,
        models.run_id,
        metrics={},
        tags={},
        documents={
            "lineage.json": come_from.model_dump(mode="json"),
            "verdict.json": verdict.model_dump(mode="json"),
        },
        texts={"model_card/README.md": "# A card"},
    )
    kept = documents(models.client, find(models.client, models.name, "1"))
    assert (kept.lineage, kept.verdict) == (come_from, verdict)
    assert kept.texts["model_card/README.md"] == "# A card"
    config = tmp_path / "evergreen.yaml"
    config.write_text(yaml.safe_dump({"name": models.name}), "utf-8")
    runner = CliRunner()
    shown = runner.invoke(app, ["models", "why", "champion", "--config", str(config)])
    assert shown.exit_code == 0, shown.output
    assert "Version 1 of 'evergreen', champion now" in shown.output
    shown = runner.invoke(app, ["models", "why", "1", "--json", "--config", str(config)])
    told = json.loads(shown.stdout)
    assert told["lineage"]["train"][0]["digest"] == parts.train.digest
    assert [one["action"] for one in told["history"]] == ["promote"]
