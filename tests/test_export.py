"""An exported version loads without Evergreen and answers as the one in the registry."""

import json
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from data_contracts.errors import ConfigError, ModelError, RegistryError
from data_contracts.workspace import Workspace
from models.adapters import CONFIG, WEIGHTS, Adapter, load_model
from models.base import ModelSettings, load_tokenizer, resolve_base
from models.template import load_template
from tasks import export as exports
from tasks import tracking
from tasks.champion import load_version
from tasks.documents import Documents, documents
from tasks.export import Said, check, export
from tasks.registry import LoadedVersion, find
from tasks.vllm import adapter_serving
from tests.registries import Registry, real_adapter, real_base

numbers = count()

# A process that knows nothing of Evergreen.
OUTSIDE = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, kind, out = sys.argv[1:]
auto = AutoPeftModelForCausalLM if kind == "adapter" else AutoModelForCausalLM
model = auto.from_pretrained(folder).eval()
ids = AutoTokenizer.from_pretrained(folder)("how is it in oslo?")["input_ids"]
with torch.no_grad():
    torch.save((ids, model(input_ids=torch.tensor([ids])).logits.float()), out)
assert not any(name.startswith(("tasks", "models.")) for name in sys.modules)
"""


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Version 1 of a base in float32; what it needs of documents is with its run."""
    home = Workspace(home=tmp_path_factory.mktemp("export") / "home")
    home.create()
    base = real_base(tiny_model, home)
    real_adapter(home, base, "first", 0)
    made = Registry(home, f"exported-{next(numbers)}", base)
    made.promote("first", "promote", None)
    return made


@pytest.fixture
def loaded(models: Registry) -> LoadedVersion:
    return load_version(find(models.client, models.name, "1"), models.workspace)


@pytest.fixture
def kept(models: Registry, loaded: LoadedVersion) -> Documents:
    return documents(models.client, loaded.version)


def outside(folder: Path, kind: str, scratch: Path) -> tuple[list[int], torch.Tensor]:
    """(token ids, logits) of the export, in a process of its own, elsewhere."""
    out = scratch / "logits.pt"
    subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(folder), kind, str(out)], cwd=scratch, check=True
    )
    ids, logits = torch.load(out)
    return ids, logits


def logits_of(version: LoadedVersion, ids: list[int], *, bare: bool = False) -> torch.Tensor:
    with torch.no_grad():
        model = load_model(version.base, None if bare else version.adapter)
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits.float()
    return found


def sums(folder: Path) -> int:
    return subprocess.run(
        ["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=False
    ).returncode


@pytest.mark.parametrize("merged", [False, True])
def test_loaded_elsewhere_it_answers_the_same(
    loaded: LoadedVersion, kept: Documents, tmp_path: Path, merged: bool
) -> None:
    folder = tmp_path / "out"
    done = export(loaded, kept, folder, merged=merged)
    assert done.distance <= done.tolerance == 1e-4
    ids, logits = outside(folder, "merged" if merged else "adapter", tmp_path)
    assert ids == load_tokenizer(loaded.base)("how is it in oslo?")["input_ids"]
    torch.testing.assert_close(logits, logits_of(loaded, ids), rtol=1e-4, atol=1e-4)
    assert (logits - logits_of(loaded, ids, bare=True)).abs().max() > 0.01
    names = {path.name for path in folder.iterdir()}
    whole = {"tokenizer.json", "tokenizer_config.json", "README.md", "SHA256SUMS"}
    weights = (
        {"model.safetensors", "config.json"} if merged else {WEIGHTS, CONFIG, "evergreen.json"}
    )
    assert whole | weights <= names
    assert names - {"SHA256SUMS"} == set(done.files)
    assert list(tmp_path.glob(".partial-*")) == []


def test_the_adapter_names_its_base_and_how_to_serve_it(
    loaded: LoadedVersion, kept: Documents, tmp_path: Path
) -> None:
    done = export(loaded, kept, tmp_path / "out")
    config = json.loads((tmp_path / "out" / CONFIG).read_text("utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == (loaded.base.path, None)
    assert done.serving.vllm
    assert f"vllm serve {loaded.base.path} --enable-lora --max-lora-rank 8" in done.serving.reason
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "peft"
    assert done.serving.reason.replace(done.folder, "THIS_FOLDER") in card.text
    snapshot = tmp_path / "hub" / "models--org--base" / "snapshots" / "1"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(loaded.base.path)
    hub = {"id": "org/base", "revision": "v1", "path": str(snapshot)}
    of_hub = loaded.model_copy(update={"base": loaded.base.model_copy(update=hub)})
    export(of_hub, kept, tmp_path / "hubbed")
    config = json.loads((tmp_path / "hubbed" / CONFIG).read_text("utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", "v1")


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"r": 600}, "a rank of 600"),
        ({"r": 48}, None),
    ],
)
def test_what_vllm_does_not_load(
    loaded: LoadedVersion, tmp_path: Path, changed: dict[str, object], limit: str | None
) -> None:
    config = json.loads((Path(loaded.adapter.path) / CONFIG).read_text("utf-8"))
    (tmp_path / CONFIG).write_text(json.dumps(config | changed), "utf-8")
    serving = adapter_serving(tmp_path, "name", Path("/there"))
    assert serving.vllm is (limit is None)
    assert (limit or "--max-lora-rank 64 --lora-modules name=/there") in serving.reason


def test_checksums_notice_damage(loaded: LoadedVersion, kept: Documents, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export(loaded, kept, folder)
    assert sums(folder) == 0
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert sums(folder) != 0


def test_another_adapters_weights_are_noticed(
    loaded: LoadedVersion, kept: Documents, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    export(loaded, kept, folder)
    said = Said.of(load_model(loaded.base, loaded.adapter), load_template(loaded.base))
    assert check(folder, loaded.base, said, merged=False) == 0
    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor * 1.1 for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="answers differently"):
        check(folder, loaded.base, said, merged=False)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(ModelError, match="cannot be loaded back"):
        check(folder, loaded.base, said, merged=False)


def test_what_answers_differently_is_removed(
    loaded: LoadedVersion, kept: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "READ_TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="answers differently"):
        export(loaded, kept, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_stays_as_it_is(
    loaded: LoadedVersion, kept: Documents, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(ConfigError, match="not empty"):
        export(loaded, kept, folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    assert export(loaded, kept, folder).folder == str(folder)
    with pytest.raises(ConfigError, match="there is no folder"):
        export(loaded, kept, tmp_path / "not" / "there")


def test_merging_in_a_coarser_format(
    models: Registry, kept: Documents, tiny_model: Path, tmp_path: Path
) -> None:
    """Rounded weights are within the tolerance; what is rounded away as a whole is no export."""
    base = resolve_base(
        ModelSettings(base=str(tiny_model), dtype="bfloat16"), models.workspace.models
    )
    first = load_version(find(models.client, models.name, "1"), models.workspace)
    coarse = first.model_copy(update={"base": base})
    done = export(coarse, kept, tmp_path / "coarse", merged=True)
    assert 0 < done.distance <= done.tolerance == 0.15
    config = json.loads((tmp_path / "coarse" / "config.json").read_text("utf-8"))
    assert config["dtype"] == "bfloat16"
    folder = tmp_path / "adapter"
    shutil.copytree(first.adapter.path, folder)
    tensors = load_file(folder / WEIGHTS)
    save_file(
        {name: t * (1e-6 if "lora_B" in name else 1) for name, t in tensors.items()},
        folder / WEIGHTS,
    )
    faint = coarse.model_copy(update={"adapter": Adapter.at(folder)})
    with pytest.raises(ModelError, match="lost in rounding"):
        export(faint, kept, tmp_path / "faint", merged=True)
    assert not (tmp_path / "faint").exists()


def test_on_the_command_line(
    models: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli import app

    monkeypatch.setenv("EVERGREEN_HOME", str(models.workspace.home))
    models = Registry(models.workspace, f"exported-{next(numbers)}", models.base)
    models.promote("first", "promote", None)
    tracking.log_results(
        models.client, models.run_id, metrics={}, tags={},
        documents={"lineage.json": {"of": "it"}, "verdict.json": {"so": True}},
        texts={"model_card/README.md": "---\nlibrary_name: peft\n---\n\n# A card of numbers\n"},
    )  # fmt: skip
    config = tmp_path / "evergreen.yaml"
    config.write_text(yaml.safe_dump({"name": models.name}), "utf-8")
    folder = tmp_path / "out"
    shown = CliRunner().invoke(
        app, ["export", "champion", str(folder), "--merged", "--json", "--config", str(config)]
    )
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout[shown.stdout.index("{") :])
    assert (told["version"], told["merged"], told["serving"]["vllm"]) == ("1", True, True)
    assert json.loads((folder / "lineage.json").read_text("utf-8")) == {"of": "it"}
    assert {"lineage.json", "verdict.json", "README.md"} <= set(told["files"])
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert "# A card of numbers" in card.text
    assert sums(folder) == 0
    models.damage("1")
    refused = CliRunner().invoke(
        app, ["export", "1", str(tmp_path / "no"), "--config", str(config)]
    )
    assert isinstance(refused.exception, RegistryError)
    assert not (tmp_path / "no").exists()
