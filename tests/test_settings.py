"""Settings say which key is wrong, where it was set, and what to do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import ConfigError
from flows.settings import Settings, load_settings, reference


@pytest.fixture(autouse=True, scope="module")
def _settings_of_the_tests_are_not_ours() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("EVERGREEN_SCRUB__")]:
            patch.delenv(variable)
        yield


def settings_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "evergreen.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_environment_goes_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = settings_file(tmp_path, "train: {epochs: 2, learning_rate: 1.0e-3}")
    monkeypatch.setenv("EVERGREEN_TRAIN__EPOCHS", "3")
    settings = load_settings(file, data=["a.jsonl"])
    assert settings.train.epochs == 3
    assert settings.train.learning_rate == 1e-3
    assert [source.path for source in settings.data.sources] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trian: {epochs: 2}", ["unknown setting 'trian'", "evergreen.yaml", "mean 'train'?"]),
        ("train: {epoch: 2}", ["unknown setting 'train.epoch'", "mean 'epochs'?"]),
        ("train: {epochs: -1}", ["'train.epochs'", "greater than 0"]),
        ("train: {epochs: many}", ["'train.epochs'", "valid number"]),
        ("train: 3", ["'train'", "not a mapping"]),
        ("- a", ["not a mapping of settings"]),
        ("a: [", ["is not YAML"]),
        ("data: {sources: []}", ["'data.sources'", "at least 1"]),
        ("name: ../x", ["'name'", "pattern"]),
        ("evaluate: {sets: [{name: holdout, path: a}]}", ["'evaluate'", "named 'holdout'"]),
        (
            "evaluate: {sets: [{name: own, path: a}, {name: own, path: b}]}",
            ["'evaluate'", "named 'own'"],
        ),
    ],
)
def test_errors_name_the_key_and_the_fix(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(settings_file(tmp_path, text))
    assert all(part in str(error.value) for part in parts), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("EVERGREEN_TRAIN__EPOCHS", "x", ["EVERGREEN_TRAIN__EPOCHS", "'train.epochs'"]),
        ("EVERGREEN_TRAIN__EPOC", "1", ["EVERGREEN_TRAIN__EPOC", "mean 'epochs'?"]),
        ("EVERGREEN_TRIAN__EPOCHS", "1", ["EVERGREEN_TRIAN__EPOCHS", "mean 'train'?"]),
        ("EVERGREEN_DATA", "{", ["data", "JSON"]),
    ],
)
def test_errors_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, parts: list[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no settings file"):
        load_settings(tmp_path / "none.yaml")


@given(
    epochs=st.floats(min_value=0.01, max_value=100),
    holdout=st.floats(min_value=0.01, max_value=0.99),
    paths=st.lists(st.text(min_size=1), min_size=1, max_size=3),
    stage=st.sampled_from([1, 2, 3]),
)
def test_settings_survive_yaml(
    tmp_path_factory: pytest.TempPathFactory,
    epochs: float,
    holdout: float,
    paths: list[str],
    stage: int,
) -> None:
    settings = Settings.model_validate(
        {
            "data": {"sources": paths},
            "split": {"holdout": holdout},
            "train": {"epochs": epochs, "zero_stage": stage},
        }
    )
    file = tmp_path_factory.mktemp("yaml") / "s.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    assert load_settings(file) == settings


def test_the_reference_in_the_documentation_is_current() -> None:
    text = Path("docs/configuration.md").read_text(encoding="utf-8")
    written = text.split("<!-- settings -->")[1].split("<!-- /settings -->")[0].strip()
    assert written == reference().strip(), "run `evergreen config --markdown` and paste it"
