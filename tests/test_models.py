"""Base models and adapters that cannot be right are refused, each with its reason."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_contracts.errors import ModelError, TrainingError
from data_contracts.records import Message
from models.adapters import CONFIG, ORIGIN, WEIGHTS, Adapter, load_model, save_adapter
from models.base import Base, ModelSettings, load_weights, resolve_base
from models.chat import encode
from models.finetune import learning_rate
from models.generate import answer
from models.lora import attach_lora
from models.score import batches, mean_loss, score
from models.spec import Recipe
from models.template import Dialogue, load_template
from tests.tiny import make_tiny_model


def resolve(folder: Path, store: Path) -> Base:
    return resolve_base(ModelSettings(base=str(folder), dtype="float32"), store)


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Base:
    return resolve(tiny_model, tmp_path / "models")


@pytest.fixture
def adapter_folder(base: Base, tmp_path: Path) -> Path:
    """A trained adapter: B is not zero."""
    model = attach_lora(load_weights(base), Recipe(lora_rank=4))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    folder = tmp_path / "adapter"
    save_adapter(model, folder, base)
    return folder


# -- base models ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", r"no \*.safetensors"),
    ],
)
def test_an_incomplete_folder(tiny_model: Path, tmp_path: Path, missing: str, message: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=message):
        resolve(folder, tmp_path / "models")


def test_pickled_weights_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights are refused"):
        resolve(folder, tmp_path / "models")


def test_a_changed_tokenizer_stops(tiny_model: Path, tmp_path: Path) -> None:
    folder, store = tmp_path / "model", tmp_path / "models"
    shutil.copytree(tiny_model, folder)
    before = resolve(folder, store)
    assert resolve(folder, store) == before
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text("utf-8").replace("<|system|>", "<|sistem|>"), "utf-8")
    with pytest.raises(ModelError, match="tokenizer.*changed"):
        resolve(folder, store)


def test_changed_weights_are_another_base(tiny_model: Path, tmp_path: Path) -> None:
    folder, store = tmp_path / "model", tmp_path / "models"
    shutil.copytree(tiny_model, folder)
    before = resolve(folder, store)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    after = resolve(folder, store)
    assert after.digest != before.digest
    assert after.tokenizer_digest == before.tokenizer_digest


def test_weights_cut_short(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_weights(resolve(folder, tmp_path / "models"))


def test_no_such_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no folder"):
        resolve_base(ModelSettings(base="./not-here"), tmp_path)
    with pytest.raises(ModelError, match="no bundled model"):
        resolve_base(ModelSettings(base="bundled:gpt-9"), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot get nobody/nothing"):
        resolve_base(ModelSettings(base="nobody/nothing"), tmp_path)


# -- adapters ------------------------------------------------------------------------


def test_an_adapter_changes_the_model_and_loads_back_the_same(
    base: Base, adapter_folder: Path
) -> None:
    template = load_template(base)
    talk = [Message(role="user", content="how?"), Message(role="assistant", content="warm")]
    examples, _ = encode(template, "x", Dialogue(talk), 64)

    def loss(adapter: Adapter | None) -> float:
        return mean_loss(
            score(load_model(base, adapter), examples, template.tokenizer.pad_token_id)
        )

    adapter = Adapter.at(adapter_folder)
    assert loss(adapter) == loss(adapter)
    assert abs(loss(adapter) - loss(None)) > 1e-3
    assert isinstance(answer(load_model(base, adapter), template, talk[:1]), str)


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def zero_b(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        if "lora_B" in name:
            tensors[name].zero_()


def drop_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[sorted(tensors)[0]]


def empty_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors[sorted(tensors)[0]] = torch.empty(0)


def nan_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors[sorted(tensors)[0]].fill_(float("nan"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (zero_b, "every lora_B is zero"),
        (drop_one, "missing or left over"),
        (empty_one, "is empty"),
        (nan_one, "NaN or infinite"),
    ],
)
def test_broken_tensors(
    base: Base,
    adapter_folder: Path,
    change: Callable[[dict[str, torch.Tensor]], None],
    reason: str,
) -> None:
    edit(adapter_folder, change)
    with pytest.raises(ModelError, match=reason):
        load_model(base, Adapter.at(adapter_folder))


def test_a_file_cut_short(base: Base, adapter_folder: Path) -> None:
    weights = adapter_folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(base, Adapter.at(adapter_folder))


def test_changed_after_it_was_made(base: Base, adapter_folder: Path) -> None:
    adapter = Adapter.at(adapter_folder)
    config = adapter_folder / CONFIG
    config.write_text(config.read_text("utf-8").replace('"lora_alpha": 32', '"lora_alpha": 320'))
    with pytest.raises(ModelError, match="changed after it was made"):
        load_model(base, adapter)


def test_of_another_base(base: Base, adapter_folder: Path, tmp_path: Path) -> None:
    other = resolve(make_tiny_model(tmp_path / "other", hidden=32), tmp_path / "models")
    with pytest.raises(ModelError, match="trained on other weights"):
        load_model(other, Adapter.at(adapter_folder))
    origin = json.loads((adapter_folder / ORIGIN).read_text("utf-8"))
    (adapter_folder / ORIGIN).write_text(json.dumps({**origin, "tokenizer_digest": "x"}), "utf-8")
    with pytest.raises(ModelError, match="another tokenizer"):
        load_model(base, Adapter.at(adapter_folder))


def test_the_same_adapter_has_the_same_digest(base: Base, tmp_path: Path) -> None:
    def make(folder: Path) -> str:
        torch.manual_seed(1)
        model = attach_lora(load_weights(base), Recipe(lora_rank=4))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.1)
        save_adapter(model, folder, base)
        return Adapter.at(folder).digest

    assert make(tmp_path / "a") == make(tmp_path / "b")


def test_target_modules_that_do_not_exist(base: Base) -> None:
    with pytest.raises(TrainingError, match="cannot attach LoRA"):
        attach_lora(load_weights(base), Recipe(target_modules=("nope",)))


# -- the rate ------------------------------------------------------------------------


def test_the_rate_rises_and_falls() -> None:
    recipe = Recipe()
    rates: list[Any] = [learning_rate(step, 20, recipe) for step in range(20)]
    assert max(rates) == recipe.learning_rate
    assert rates[-1] == min(rates)
    assert rates[-1] > 0


def test_batches_weigh_padding_against_one_more_pass() -> None:
    short = [31] * 38
    assert batches([*short, 329, 514], 16_384, passes=48) == [list(range(38)), [38, 39]]
    assert batches([10, 10, 50, 60, 200, 5000], 4096) == [[0, 1], [2, 3], [4], [5]]
    assert batches([], 100) == []
    draw = random.Random(4)
    widths = sorted(draw.randint(5, 512) for _ in range(500))
    found = batches(widths, 4096)
    assert [place for batch in found for place in batch] == list(range(500))
    assert all(widths[batch[-1]] * len(batch) <= 4096 for batch in found)
