"""Families of models, tiny and with a template that behaves as theirs: trained on two ranks, saved,
read back and asked."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from data_contracts.records import Message, Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from models.adapters import WEIGHTS, load_model
from models.base import ModelSettings, load_weights, resolve_base
from models.chat import encode_all
from models.generate import answer
from models.lora import attach_lora, fuse, remarks_on
from models.objective import Objective
from models.plan import shape_of
from models.spec import Recipe
from models.template import FOLDED, OTHER_PROMPT, load_template
from tasks.train import TrainSettings, spec_of, train
from tests.architectures import GROUPED, MODELS, make_model
from tests.tiny import conversations

# One of each kind of trouble; the others are tried by `make test-slow`.
FEW = ("qwen3", "gemma 2", "mixtral")


def records() -> list[Record]:
    """Of one question and of two, every third with a system prompt."""
    rows = [Record.model_validate({**row, "source": "x"}) for row in conversations(18)]
    for at in range(0, 18, 3):
        system = Message(role="system", content="be brief.")
        messages = (system, *rows[at].messages, *rows[at + 1].messages)
        rows[at] = rows[at].model_copy(update={"messages": messages})
    return rows


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in MODELS],
)
def test_a_family_trains_on_two_ranks_and_answers(
    name: str, tiny_model: Path, workspace: Workspace
) -> None:
    folder = make_model(name, tiny_model, workspace.home / "model")
    base = resolve_base(ModelSettings(base=str(folder), dtype="float32"), workspace.models)
    data = write_records(str(workspace.snapshots), "train", records(), parent=None, provenance={})
    settings = TrainSettings(
        processes=2, max_steps=2, max_length=200, lora_rank=4, validation_share=0
    )
    trained = train(spec_of(data, base, settings, None, workspace), settings)
    metrics = trained.metrics
    assert (metrics.steps, metrics.processes, metrics.skipped) == (2, 2, 0)
    assert metrics.conversations == 18
    assert (metrics.examples > 18) == (MODELS[name][0] in ("qwen3", "mistral"))
    assert (FOLDED in metrics.changed) == (MODELS[name][0] == "gemma")
    assert (OTHER_PROMPT in metrics.changed) == (MODELS[name][0] == "deepseek")
    fused = name in ("qwen3 moe", "mixtral", "deepseek")
    assert any("experts" in remark for remark in metrics.remarks) == fused
    tensors = load_file(Path(trained.adapter.path) / WEIGHTS)
    assert all(bool(one.any()) for one in tensors.values()), "a tensor learnt nothing"
    assert not any("vision" in tensor for tensor in tensors)
    model = load_model(base, trained.adapter)
    asked = (Message(role="system", content="be brief."), Message(role="user", content="oslo?"))
    assert isinstance(answer(model, load_template(base), asked, max_new_tokens=4), str)


# -- what cannot be traced or packed -------------------------------------------------


@pytest.mark.parametrize(
    "name", ["gemma 2", "mixtral", "gpt neox", "deepseek", "gemma 3 that sees"]
)
@pytest.mark.parametrize("element_bytes", [2, 4])
def test_an_estimate_never_decides_what_can_be_trained(name: str, element_bytes: int) -> None:
    shape = shape_of(MODELS[name][1](300), Recipe(), element_bytes)
    assert shape.token_bytes > 0
    assert shape.parameters > 50_000


def test_a_model_that_cannot_be_traced_is_estimated_by_a_rule(tmp_path: Path) -> None:
    config = transformers.MambaConfig(hidden_size=64, num_hidden_layers=2, vocab_size=300)
    shape = shape_of(config, Recipe(), 4)
    assert shape.rule
    assert shape.vocabulary == 300
    llama = transformers.LlamaConfig(vocab_size=300, **GROUPED)
    traced = shape_of(llama, Recipe(), 4)
    assert traced.rule is None


@pytest.mark.parametrize("packing", [None, False])
@pytest.mark.parametrize("name", ["gemma 2", "mixtral"])
def test_packing_is_left_alone_where_it_is_not_wanted_or_not_the_same(
    name: str, packing: bool | None, tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_model(name, tiny_model, tmp_path / "model")
    base = resolve_base(ModelSettings(base=str(folder), dtype="float32"), tmp_path / "store")
    examples, _ = encode_all(load_template(base), records(), 200)
    tuned = attach_lora(load_weights(base), Recipe(lora_rank=4))
    objective = Objective(tuned, 0)
    why = objective.settle(examples, torch.device("cpu"), packing)
    assert objective.packed == (name == "mixtral" and packing is None)
    assert (why is not None) == (name == "gemma 2" and packing is None)
    loss = objective(**objective.batch(examples[:3], torch.device("cpu")))
    loss.backward()
    assert all(one.grad is not None for one in tuned.parameters() if one.requires_grad)


def test_only_the_language_model_of_a_model_that_sees_has_an_adapter(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_model("gemma 3 that sees", tiny_model, tmp_path / "model")
    base = resolve_base(ModelSettings(base=str(folder), dtype="float32"), tmp_path / "store")
    for targets in ("all-linear", ("q_proj", "v_proj")):
        tuned = attach_lora(load_weights(base), Recipe(lora_rank=4, target_modules=targets))
        learning = [name for name, one in tuned.named_parameters() if one.requires_grad]
        assert learning
        assert all("language_model.layers" in name for name in learning)
        assert any("language model alone" in remark for remark in remarks_on(tuned))
        assert fuse(tuned) == len(learning) // 2


def test_layers_of_gpt_2_are_no_plain_linear_ones(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_model("gpt 2", tiny_model, tmp_path / "model")
    base = resolve_base(ModelSettings(base=str(folder), dtype="float32"), tmp_path / "store")
    tuned = attach_lora(load_weights(base), Recipe(lora_rank=4))
    assert fuse(tuned) == 0
    assert any("c_attn.lora_A" in name for name, _ in tuned.named_parameters())
