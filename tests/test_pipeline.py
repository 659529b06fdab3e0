"""The whole retrain on real parts: Prefect server, MLflow on SQLite, two DeepSpeed ranks."""

import json
import re
import shutil
import sqlite3
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from data_contracts.workspace import Workspace
from models.template import FOLDED
from tasks.sources import pii_sentences
from tests import authorized
from tests.commands import TINY, assert_one_line_error, evergreen, tiny_settings
from tests.digest_attack import attack_with
from tests.leaks import PLANTED, Lookout, content_of, everywhere, leaks, leaks_in, plant
from tests.tiny import conversations, write_jsonl

# Refused by the reader and, as nobody answers, by the contract.
BROKEN = ("pirate",) * 6 + ("user",) * 6
LABELLED = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE")
# Refused by the chat template.
GREETED = 12
PII_ROWS = 40
ROWS = 160 + len(BROKEN) + 2 * len(PLANTED) + GREETED + PII_ROWS
SEED = 7
# Without a system role, as Gemma's, and with tools, as Mistral's.
TEMPLATE = """{% if messages[0].role == 'assistant' %}\
{{ raise_exception('A conversation begins with the user') }}{% endif %}\
{% for tool in tools or [] %}<|tool|>{{ tool.function.description }}<|end|>{% endfor %}\
{% for m in messages %}\
{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
<|{{ m.role }}|>{{ m.content }}{% for call in m.tool_calls or [] %}\
<|call|>{{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}<|end|>\
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


class Run:
    """A finished retrain: where its state is, what it was run with, what it reported."""

    def __init__(self, home: Path, settings: Path, data: Path) -> None:
        self.home = home
        self.settings = settings
        self.data = data
        self.said = ""
        self.temporary = home.with_name("temporary")
        with Lookout(self.temporary) as self.lookout:
            self.report = self.retrain()

    def retrain(self) -> dict[str, Any]:
        done = self.evergreen("retrain", "--config", self.settings, "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def evergreen(self, *arguments: str | Path, **env: str) -> "CompletedProcess[str]":
        done = evergreen(*arguments, home=self.home, TMPDIR=str(self.temporary), **env)
        self.said += done.stdout + done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        done = evergreen(*arguments, "--config", self.settings, "--json", home=self.home)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)


LONGER: dict[str, Any] = {
    "train": {**TINY["train"], "max_length": 512, "max_skipped": 0.1},
    "evaluate": {**TINY["evaluate"], "max_length": 512, "answers": 12},
}


def with_template(model: Path, folder: Path) -> Path:
    """A copy of a model with the template above."""
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(prefect_api: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One retrain over a user's own file, full of planted personal data in every field, some of it
    in rows that cannot be read or are refused, and the slice with labelled personal data."""
    folder = tmp_path_factory.mktemp("pipeline")
    rows = plant(conversations(160))
    for row in rows[::8]:
        row["messages"].insert(0, {"role": "system", "content": "be brief."})
    rows += [everywhere(value, number) for number, value in enumerate(PLANTED)]
    for row in plant(conversations(GREETED, seed=1)):
        rows.append({"messages": [{"role": "assistant", "content": "hello!"}, *row["messages"]]})
    rows += plant([{"messages": [{"role": role, "content": "hello"}]} for role in BROKEN])
    data = write_jsonl(folder / "chats.jsonl", rows)
    with data.open("a", encoding="utf-8") as file:
        file.writelines(f'{{"prompt": "{value}", "response": \n' for value in PLANTED)
    settings = tiny_settings(
        folder,
        with_template(tiny_model, folder / "model"),
        data={
            "sources": [str(data), {"path": "bundled:pii", "rows": PII_ROWS}],
            "seed": SEED,
        },
        **LONGER,
    )
    return Run(folder / "home", settings, data)


def test_the_first_champion_beats_the_base_model(run: Run) -> None:
    report = run.report
    assert report["verdict"]["decision"] == "promote"
    assert report["verdict"]["bar"] == "base"
    assert report["evaluation"]["challenger"]["loss"] < report["evaluation"]["base"]["loss"] - 0.2
    assert report["promotion"] == {
        "model": "evergreen", "version": "1", "champion": "1", "previous": None, "changed": True
    }  # fmt: skip
    assert report["training"]["processes"] == 2
    assert report["training"]["last_loss"] < report["training"]["first_loss"]


def test_rows_balance(run: Run) -> None:
    report = run.report
    assert report["listing_rows"] == ROWS
    out = report["train_rows"] + report["holdout_rows"]
    quarantined = report["scrub"]["account"]["quarantined"]
    quarantined += report["validate_account"]["quarantined"] + sum(report["set_aside"].values())
    assert report["listing_rows"] == out + quarantined + report["scrub"]["account"]["duplicates"]


def test_what_was_skipped_and_adapted_is_told_wherever_one_looks(
    run: Run, prefect_api: str
) -> None:
    training = run.report["training"]
    (why, skipped), *others = training["skipped_by"].items()
    assert (why, others) == ("A conversation begins with the user", [])
    assert 0 < skipped == training["skipped"] <= GREETED
    folded = training["changed"][FOLDED]
    assert folded > 0
    card = next((run.home / "mlflow").rglob("model_card/README.md")).read_text("utf-8")
    summary = run.evergreen("retrain", "--config", run.settings).stdout
    flow_run = {"flow_runs": {"id": {"any_": [run.report["flow_run_id"]]}}}
    artifacts = authorized.post(f"{prefect_api}/artifacts/filter", json=flow_run).json()
    (artifact,) = (one["data"] for one in artifacts if one["key"] == "retrain-report")
    page = Path(run.report["page"]).read_text("utf-8")
    for text in (summary, card, artifact, page):
        assert re.search(rf"{why}\W+{skipped}\b|\b{skipped}\b[\w ]*: {why}", text)
        assert re.search(rf"{FOLDED}\W+{folded}\b|\b{folded}\b[\w ]*: {FOLDED}", text)


def test_labelled_personal_data_was_replaced(run: Run) -> None:
    scrub = run.report["scrub"]
    counted = [entity for entity in LABELLED if entity in scrub["labelled"]]
    assert len(counted) >= 3
    for entity in counted:
        assert scrub["covered"][entity] == scrub["labelled"][entity]


def test_the_champion_loads_back_in_a_fresh_process_as_it_was(run: Run) -> None:
    check = run.json("models", "check", "champion")
    assert check["same"]
    assert check["measured"] == pytest.approx(run.report["evaluation"]["challenger"]["loss"])


def test_the_same_retrain_again_does_nothing_again(run: Run) -> None:
    again = run.retrain()
    assert set(again["cached"]) == {
        "scrub", "validate", "split", "train", "general text", "slices",
        "evaluate challenger", "evaluate champion", "evaluate base",
    }  # fmt: skip
    assert all(again["cached"].values())
    assert again["verdict"]["decision"] == "unchanged"
    assert [version["version"] for version in run.json("models", "list")] == ["1"]


def test_mlflow_and_prefect_lead_to_each_other(run: Run) -> None:
    database = sqlite3.connect(run.home / "mlflow" / "mlflow.db")
    tags = dict(database.execute("SELECT key, value FROM tags").fetchall())
    metrics = {name for (name,) in database.execute("SELECT DISTINCT key FROM metrics")}
    datasets = database.execute("SELECT name FROM datasets").fetchall()
    assert tags["prefect.flow_run_id"] == run.report["flow_run_id"]
    assert {"train_loss", "tokens_per_second", "holdout_loss_challenger"} <= metrics
    assert len(datasets) == 2


def test_every_step_is_in_prefect(run: Run, prefect_api: str) -> None:
    flow_run = {"flow_runs": {"id": {"any_": [run.report["flow_run_id"]]}}}
    tasks = authorized.post(f"{prefect_api}/task_runs/filter", json=flow_run).json()
    assert {task["name"] for task in tasks} == {
        "ingest", "detector", "scrub", "validate", "split", "base model", "champion", "train",
        "general text", "evaluate challenger", "evaluate base", "slices", "promote",
    }  # fmt: skip
    assert {task["state"]["type"] for task in tasks} == {"COMPLETED"}
    artifacts = authorized.post(f"{prefect_api}/artifacts/filter", json=flow_run).json()
    found = {artifact["key"]: artifact for artifact in artifacts}
    assert {"retrain-report", "rows", "verdict", "train-progress", "scrub-progress"} <= set(found)
    assert "is champion" in found["retrain-report"]["data"]
    assert run.report["mlflow_run_id"] in found["retrain-report"]["data"]


def test_assets_have_lineage(run: Run, prefect_api: str) -> None:
    flow_run = f"prefect.flow-run.{run.report['flow_run_id']}"
    mine = authorized.post(
        f"{prefect_api}/events/filter",
        json={
            "filter": {
                "event": {"prefix": ["prefect.asset."]},
                "related": {"id": [flow_run]},
            },
            "limit": 50,
        },
    ).json()["events"]
    made = {
        event["resource"]["prefect.resource.id"]
        for event in mine
        if event["event"] == "prefect.asset.materialization.succeeded"
    }
    assert {"evergreen://conversations/scrubbed", "evergreen://models/adapter"} <= made
    sources = {
        part["prefect.resource.id"]
        for event in mine
        if event["resource"]["prefect.resource.id"] == "evergreen://models/adapter"
        for part in event["related"]
    }
    assert "evergreen://conversations/split" in sources


def test_no_planted_value_is_anywhere_in_what_was_written(run: Run) -> None:
    """Every byte below EVERGREEN_HOME and of the Prefect server, what was said, and temporary
    files while they were there; Parquet and base64 read back."""
    assert len(run.lookout.files) > 3
    assert run.lookout.leaks == {}
    assert leaks(run.home, Workspace.current().home) == {}
    assert leaks_in(run.said.encode()) == set()
    assert leaks(run.data.parent) != {}  # it is able to see what is there


def test_no_digest_of_a_row_with_a_planted_value_is_anywhere(run: Run) -> None:
    attack = attack_with(PLANTED, run.data)
    assert attack.recovered_from(run.home, Workspace.current().home) == {}
    assert attack.recovered(run.said.encode()) == set()


def test_no_labelled_value_is_anywhere_in_what_was_written(run: Run) -> None:
    # The slice is a seeded sample of the generated rows; none of all their values may be there.
    labelled = {
        span.entity_value
        for sample in pii_sentences(2000, SEED)
        for span in sample.spans
        if span.entity_type in LABELLED
    }
    assert len(labelled) > 300
    needles = [value.encode() for value in labelled if len(value) >= 7]
    for path in (path for path in run.home.rglob("*") if path.is_file()):
        content = content_of(path)
        leaked = [needle for needle in needles if needle in content]
        assert not leaked, f"{path}: {leaked[:3]!r}"


def test_a_scrub_that_leaks_trains_nothing(run: Run) -> None:
    done = run.evergreen(
        "retrain", "--config", run.settings, EVERGREEN_SCRUB__AUDIT__MAX_LEAK_RATE="0"
    )
    assert_one_line_error(done, "the scrub is not good enough", "max_leak_rate")
    assert leaks_in(run.said.encode()) == set()
    assert [version["version"] for version in run.json("models", "list")] == ["1"]


def test_the_registered_model_loads_and_answers_through_mlflow(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("EVERGREEN_HOME", str(run.home))
    uri = f"sqlite:///{run.home / 'mlflow' / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    model = mlflow.pyfunc.load_model("models:/evergreen@champion")
    answers = model.predict(["how is it in oslo on day 3?"])
    assert len(answers) == 1
    assert isinstance(answers[0], str)


def test_ask_base_and_champion(run: Run) -> None:
    for model in ("base", "champion", "1"):
        assert run.json("ask", "how is it in lima?", "--model", model)["model"] == model


def test_status_and_show(run: Run) -> None:
    status = run.json("status")
    assert status["champion"]["version"] == "1"
    assert status["trainings"][0]["decision"] == "promote"
    shown = run.json("models", "show", "champion")
    assert shown["metrics"]["holdout_loss_challenger"] == pytest.approx(
        run.report["evaluation"]["challenger"]["loss"]
    )


def test_a_verdict_is_kept_with_all_that_led_to_it(run: Run) -> None:
    gates = {gate["name"]: gate for gate in run.report["verdict"]["gates"]}
    assert gates["better"]["status"] == "passed"
    stopping = [gate for gate in gates.values() if gate["severity"] == "block"]
    assert {gate["status"] for gate in stopping} == {"passed", "not measured"}
    assert {"safety", "personal data in answers", "recites training text"} <= {
        name for name, gate in gates.items() if gate["status"] == "passed"
    }
    kept = {path.name for path in (run.home / "mlflow").rglob("*") if path.is_file()}
    assert kept >= {"verdict.json", "verdict.html", "evaluation.json", "lineage.json", "README.md"}
    told = run.evergreen("models", "why", "champion", "--config", run.settings).stdout
    assert "better" in told
    assert run.json("models", "history")[0]["action"] == "promote"


def test_a_damaged_snapshot_is_made_again(run: Run) -> None:
    shard = next((run.home / "snapshots").glob("train-*/part-00000.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    again = run.retrain()
    assert not again["cached"]["split"]
    assert again["cached"]["scrub"]
    assert again["cached"]["train"]
    assert again["verdict"]["decision"] == "unchanged"


def test_a_challenger_that_is_no_better_is_registered_but_not_promoted(
    run: Run, tmp_path: Path
) -> None:
    """Trained for one step at a tiny rate, it cannot beat the champion."""
    settings = tiny_settings(
        tmp_path,
        run.home.with_name("model"),
        data={"sources": [str(run.data)], "seed": SEED},
        **LONGER,
    )
    settings.write_text(settings.read_text().replace("max_steps: 40", "max_steps: 1"))
    done = evergreen(
        "retrain", "--config", settings, "--json", home=run.home, EVERGREEN_TRAIN__ZERO_STAGE="3"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["verdict"]["decision"] == "keep"
    assert report["verdict"]["bar"] == "champion"
    versions = {tuple(v["aliases"]): v for v in run.json("models", "list")}
    assert versions[("champion",)]["version"] == "1"
    assert versions[("challenger",)]["version"] == "2"
    assert "against the champion" in versions[("challenger",)]["reason"]


def test_another_tokenizer_than_the_champions_is_refused(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    text = (other / "tokenizer.json").read_text("utf-8")
    (other / "tokenizer.json").write_text(text.replace("<|system|>", "<|sistem|>"), "utf-8")
    settings = tiny_settings(tmp_path, other, data={"sources": [str(run.data)], "seed": SEED})
    done = evergreen("retrain", "--config", settings, home=run.home)
    assert_one_line_error(done, "another tokenizer", "set `name`")
