"""lm-evaluation-harness on a task of one's own, where it is installed."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.errors import ConfigError
from tasks.evaluate.harness import HarnessSettings, harness, identity
from tests.registries import real_base
from tests.tiny import CITIES

HERE = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not HERE, reason="lm-eval is not installed")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HarnessSettings:
    """A task of twelve questions with two answers each; half the time the first is right."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "data.jsonl"
    rows = [
        {"question": f"how is it in {city}?", "choices": ["it is warm", "zzqqxx"], "right": n % 2}
        for n, city in enumerate([*CITIES, "bern", "riga"])
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "weather",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "weather.yaml").write_text(yaml.safe_dump(task))
    generated = task | {
        "task": "unread",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
        "metric_list": [{"metric": "bleu"}],
    }
    del generated["doc_to_choice"]
    (folder / "unread.yaml").write_text(yaml.safe_dump(generated))
    return HarnessSettings(tasks=("weather",), limit=10, include_path=folder)


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from data_contracts.workspace import Workspace
    from models.adapters import load_model
    from models.base import load_tokenizer

    base = real_base(tiny_model, Workspace(home=tmp_path_factory.mktemp("home")))
    return load_model(base), load_tokenizer(base)


def test_no_tasks_ask_for_nothing() -> None:
    assert harness(None, None, HarnessSettings()) == {}


@pytest.mark.skipif(HERE, reason="lm-eval is installed")
def test_tasks_need_the_extra() -> None:
    with pytest.raises(ConfigError, match=r"evergreen-llm\[lm-eval\]"):
        harness(None, None, HarnessSettings(tasks=("arc_easy",)))


@needs_harness
def test_each_document_is_right_or_wrong(model: tuple[Any, Any], settings: HarnessSettings) -> None:
    found = harness(*model, settings)
    assert list(found) == ["weather"]
    assert [one.id for one in found["weather"]] == [f"weather/{n}" for n in range(10)]
    assert {one.total for one in found["weather"]} <= {0.0, 1.0}
    # As if two models of the same weights were compared.
    assert harness(*model, settings) == found


@needs_harness
def test_a_task_without_accuracy_is_refused(
    model: tuple[Any, Any], settings: HarnessSettings
) -> None:
    with pytest.raises(ConfigError, match="measures bleu, not whether"):
        harness(*model, settings.model_copy(update={"tasks": ("unread",)}))


@needs_harness
def test_tasks_that_cannot_be_run(model: tuple[Any, Any], settings: HarnessSettings) -> None:
    with pytest.raises(ConfigError, match="lm-eval has no task no_such_task"):
        harness(*model, settings.model_copy(update={"tasks": ("weather", "no_such_task")}))
    with pytest.raises(ConfigError, match="there is no folder"):
        harness(*model, settings.model_copy(update={"include_path": Path("/no/folder")}))
    assert settings.include_path is not None
    (settings.include_path / "data.jsonl").unlink()
    with pytest.raises(ConfigError, match="cannot run weather"):
        harness(*model, settings)


@needs_harness
def test_what_decides_the_results(settings: HarnessSettings) -> None:
    before = identity(settings)
    assert settings.include_path is not None
    (settings.include_path / "data.jsonl").write_text("{}")
    assert identity(settings) != before
