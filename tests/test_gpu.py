"""What only a GPU computes: flash attention, NCCL, four bits, and memory that runs out.

    pytest tests/test_gpu.py --noconftest -o addopts=

It needs no servers, so it also runs where only torch, transformers, peft and DeepSpeed are.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import scaled_dot_product_attention

from data_contracts.errors import TrainingError
from models.adapters import WEIGHTS
from models.attention import isolated_attention
from models.base import DtypeName
from models.chat import Example
from models.loss import GPU_CHUNK, chunked_loss, summed
from models.objective import Objective
from models.packing import Lengths
from models.spec import FinetuneSpec, Phase, Recipe
from tasks.train import Event, Trained, TrainSettings, train
from tests.jobs import job
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GPU = torch.device("cuda", 0)
FEW = TrainSettings(
    max_steps=20, learning_rate=2e-3, lora_rank=4, validation_share=0, processes=1, zero_stage=1
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", hidden=128)


def trained(
    folder: Path, model: Path, dtype: DtypeName = "bfloat16", count: int = 200, **changes: Any
) -> tuple[FinetuneSpec, Trained, list[str]]:
    """A training on the GPU, and what it said outside its steps."""
    settings = TrainSettings.model_validate({**FEW.model_dump(), **changes})
    spec, said = job(folder, model, settings, count=count, dtype=dtype), []

    def follow(event: Event) -> None:
        if isinstance(event, Phase):
            said.append(event.text)

    return spec, train(spec, settings, follow), said


# -- attention and loss --------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("key_heads", [6, 2])
def test_flash_attention_of_packed_conversations(key_heads: int, window: int | None) -> None:
    lengths = (1, 70, 7, 300)
    draw = torch.Generator("cuda").manual_seed(0)
    shapes = [(1, heads, sum(lengths), 64) for heads in (6, key_heads, key_heads)]
    exact = [
        torch.randn(shape, generator=draw, device=GPU, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    ours = [one.detach().bfloat16().requires_grad_() for one in exact]
    out, _ = isolated_attention(
        torch.nn.Module(), *ours, None, sliding_window=window, lengths=Lengths(lengths)
    )
    parts = []
    for q, k, v in zip(*(one.split(lengths, 2) for one in exact), strict=True):
        ones = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=GPU)
        seen = ones.tril() & ones.triu(1 - (window or q.shape[2]))
        parts.append(scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True))
    truth = torch.cat(parts, 2).transpose(1, 2)
    weights = torch.randn(truth.shape, generator=draw, device=GPU, dtype=torch.float64)
    (truth * weights).sum().backward()
    (out * weights.bfloat16()).sum().backward()
    pairs = zip(
        (out, *(one.grad for one in ours)), (truth, *(one.grad for one in exact)), strict=True
    )
    for found, wanted in pairs:
        assert found is not None
        assert wanted is not None
        assert float((found.double() - wanted).norm() / wanted.norm()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_is_unpacked(model: Path, dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM

    from models.lora import attach_lora, fuse

    base = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    base.requires_grad_(False)
    tuned = attach_lora(base, Recipe(lora_rank=4))
    draw = torch.Generator().manual_seed(0)
    for name, one in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.1, generator=draw)
    fuse(tuned)
    made = Objective(tuned.to(GPU), pad_id=0)
    some = [
        Example(str(n), tuple(range(n)), (-100,) * (n // 2) + tuple(range(n // 2, n)))
        for n in (40, 7, 90, 23)
    ]
    assert made.settle(some, GPU, packing=None) is None
    assert made.packed
    with torch.no_grad():
        packed = float(made(**made.batch(some, GPU)))
        made.packed = False
        made.model.get_base_model().set_attn_implementation("sdpa")
        alone = sum(float(made(**made.batch([one], GPU))) for one in some)
    assert packed == pytest.approx(alone, rel=1e-3)


def test_loss_in_chunks() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(32, 999, bias=False, device=GPU).requires_grad_(False)
    hidden = torch.randn(2 * GPU_CHUNK + 7, 32, device=GPU)
    targets = torch.randint(0, 999, (len(hidden),), device=GPU)
    one, other = (hidden.clone().requires_grad_() for _ in range(2))
    ours, plain = chunked_loss(one, targets, head), summed(head(other), targets)
    ours.backward()
    plain.backward()
    assert float(ours) == pytest.approx(float(plain), rel=1e-5)
    assert one.grad is not None
    assert other.grad is not None
    assert float((one.grad - other.grad).norm() / other.grad.norm()) < 1e-4


# -- whole trainings -----------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The adapter after 20 steps in float32."""
    spec, run, _ = trained(tmp_path_factory.mktemp("reference"), model, "float32")
    assert run.metrics.packed
    assert run.metrics.device == torch.cuda.get_device_name()
    return load_file(spec.output_path / "adapter" / WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"packing": False}, 2e-3),
        ({"zero_stage": 2, "micro_batch_tokens": 60}, 2e-3),
        ({"zero_stage": 3}, 2e-3),
        ({"offload": "cpu"}, 2e-3),
        ({"zero_stage": 3, "offload": "cpu"}, 2e-3),
        ({"gradient_checkpointing": True}, 2e-3),
        ({"compile": True}, 1e-2),
    ],
    ids=str,
)
def test_the_layout_does_not_matter(
    changes: dict[str, Any],
    tolerance: float,
    model: Path,
    reference: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    spec, _, _ = trained(tmp_path, model, "float32", **changes)
    ours = load_file(spec.output_path / "adapter" / WEIGHTS)
    assert ours.keys() == reference.keys()
    for name, one in ours.items():
        other = reference[name]
        assert float((one - other).norm() / other.norm()) < tolerance, name


@pytest.mark.parametrize(
    "changes",
    [{"dora": True}, {"lora_dropout": 0.1}, {"zero_stage": 3}, {"compile": True}],
    ids=str,
)
def test_bfloat16_learns(changes: dict[str, Any], model: Path, tmp_path: Path) -> None:
    _, run, _ = trained(tmp_path, model, **changes)
    assert run.metrics.dtype == "bfloat16"
    assert run.metrics.last_loss < run.metrics.first_loss - 0.5


def test_float16_learns(model: Path, tmp_path: Path) -> None:
    _, run, _ = trained(tmp_path, model, "float16")
    assert run.metrics.packed
    assert run.metrics.last_loss < run.metrics.first_loss - 0.5


def test_validation_shares_the_gpu(model: Path, tmp_path: Path) -> None:
    _, run, _ = trained(tmp_path, model, validation_share=0.2, validations=2)
    assert run.metrics.packed
    assert run.metrics.device == torch.cuda.get_device_name()
    assert run.metrics.validation_loss is not None
    assert run.metrics.validation_loss < run.metrics.first_loss


@pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="no bitsandbytes")
def test_four_bits(model: Path, tmp_path: Path) -> None:
    _, run, said = trained(tmp_path, model, quantize="nf4", zero_stage=2)
    assert run.metrics.last_loss < run.metrics.first_loss - 0.5
    assert run.metrics.packed, said


@pytest.mark.skipif(not importlib.util.find_spec("liger_kernel"), reason="no liger-kernel")
def test_liger(model: Path, tmp_path: Path) -> None:
    _, run, said = trained(tmp_path, model)
    assert "using Liger's kernels" in said
    assert run.metrics.packed
    assert run.metrics.last_loss < run.metrics.first_loss - 0.5


def limited(megabytes: int) -> str:
    """PYTORCH_CUDA_ALLOC_CONF of a GPU with so little memory."""
    whole = torch.cuda.get_device_properties(0).total_memory
    return f"per_process_memory_fraction:{megabytes * 2**20 / whole:.9f}"


def test_half_of_the_tokens_when_memory_runs_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All conversations of a step at once would take more."""
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", limited(1000))
    _, run, said = trained(
        tmp_path, model, count=4000, batch_size=4000, micro_batch_tokens=10**7, epochs=2
    )
    assert any("the job died" in one and "OutOfMemory" in one for one in said), said
    assert any("as memory ran out with more" in one for one in said), said
    assert run.metrics.steps == 2
    assert run.metrics.peak_memory_bytes <= 1000 * 2**20


def test_a_base_that_does_not_fit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", limited(2))
    with pytest.raises(TrainingError, match="does not fit into the GPU's memory"):
        trained(tmp_path, model)
