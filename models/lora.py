"""LoRA on a model: attached, started from an earlier adapter, and computed in fewer passes.

PEFT's layer reads and writes its whole output three times (base, update, sum). `fused` computes the
same (Hu et al., 2021) with the update added in place, and keeps for the backward pass only what it
needs there.
"""

import re
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from data_contracts.errors import TrainingError
from models.adapters import WEIGHTS, Adapter
from models.spec import Recipe

ADAPTER_NAME = "default"


def attach_lora(model: Any, recipe: Recipe, start: Adapter | None = None) -> Any:
    """A PEFT model with a new adapter, or one that goes on from `start`.

    Of a model that sees or hears as well, the language model alone gets an adapter: conversations
    here are text, which would leave the other parts' untrained.

    Raises:
        TrainingError: the target modules do not exist, or `start` has another shape.
    """
    from peft import LoraConfig, get_peft_model

    targets = recipe.target_modules
    try:
        tuned = get_peft_model(
            model,
            LoraConfig(
                r=recipe.lora_rank,
                lora_alpha=recipe.lora_alpha,
                lora_dropout=recipe.lora_dropout,
                use_dora=recipe.dora,
                use_rslora=recipe.rslora,
                target_modules=targets if isinstance(targets, str) else list(targets),
                exclude_modules=without_adapter(model, targets),
                task_type="CAUSAL_LM",
            ),
            autocast_adapter_dtype=False,
        )
    except ValueError as error:
        raise TrainingError(
            f"cannot attach LoRA to {targets!r} ({str(error).splitlines()[0]})",
            "correct train.target_modules",
        ) from error
    if start is not None:
        start.verify()
        _load(tuned, Path(start.path))
    return tuned


def beside_language_model(model: Any) -> str | None:
    """A pattern for the names of all modules but the language model's; None where it is all."""
    config = model.config
    if config.get_text_config() is config:
        return None
    parts = (model.get_decoder(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if name and module in parts]
    own = "|".join(re.escape(name) for name in names)
    return rf"(?!(?:{own})(?:\.|$)).*" if names else None


def without_adapter(model: Any, targets: str | tuple[str, ...]) -> str | None:
    """A pattern for the names of modules that get no adapter, None where there are none: what is no
    part of the language model, and layers of state-space models that PEFT refuses though
    `all-linear` asks for them.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba

    patterns = [beside_language_model(model)]
    for name in ("out_proj", "conv1d") if targets == "all-linear" else ():
        try:
            _check_lora_target_modules_mamba(LoraConfig(), model, name)
        except ValueError:
            patterns.append(rf"(?:.*\.)?{name}")
    return "|".join(filter(None, patterns)) or None


def remarks_on(model: Any) -> list[str]:
    """What of a model with an adapter stays as it is, though somebody may expect otherwise."""
    causal, remarks = model.get_base_model(), []
    if beside_language_model(causal):
        remarks.append("the language model alone has an adapter, not what the model sees with")
    experts = [
        one.ds_numel if hasattr(one, "ds_numel") else one.numel()
        for name, one in causal.get_decoder().named_parameters()
        if one.dim() == 3 and "expert" in name
    ]
    if experts:
        remarks.append(
            f"the weights of the experts ({sum(experts)} parameters in fused blocks) stay as they"
            " are; attention and the layers that are not fused have adapters"
        )
    return remarks


def _load(model: Any, folder: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    earlier, ours = load_file(folder / WEIGHTS), get_peft_model_state_dict(model)
    shapes = [{name: tuple(one.shape) for name, one in each.items()} for each in (earlier, ours)]
    if shapes[0] != shapes[1]:
        raise TrainingError(
            f"the adapter in {folder} has other tensors than this recipe makes",
            "use its lora_rank, target_modules and dora, or set train.warm_start: false",
        )
    set_peft_model_state_dict(model, earlier)


def fuse(model: Any) -> int:
    """Have every plain LoRA layer of `model` computed by `fused`, in the base's number format (PEFT
    loads adapters in float32); how many there are.

    Layers with dropout, DoRA or a quantised base stay PEFT's. Not for ZeRO-3, which gathers a
    layer's weights when that layer itself is called.
    """
    from peft.tuners.lora import Linear

    count = 0
    for layer in model.modules():
        if (
            type(layer) is Linear
            and type(layer.base_layer) is torch.nn.Linear
            and not layer.lora_variant
            and isinstance(layer.lora_dropout[ADAPTER_NAME], torch.nn.Identity)
            and layer.lora_B[ADAPTER_NAME].bias is None
        ):
            for factor in (layer.lora_A[ADAPTER_NAME], layer.lora_B[ADAPTER_NAME]):
                factor.to(layer.base_layer.weight.dtype)
            layer.forward = MethodType(_forward, layer)
            count += 1
    return count


def _forward(layer: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    base = layer.base_layer
    return fused(
        x,
        base.weight,
        base.bias,
        layer.lora_A[ADAPTER_NAME].weight,
        layer.lora_B[ADAPTER_NAME].weight,
        layer.scaling[ADAPTER_NAME],
    )


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.flatten(0, -2)
        down = rows @ a.T
        out = linear(rows, weight, bias)
        out.addmm_(down, b.T, alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, down)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *above: Any) -> tuple[Any, ...]:
        rows, weight, a, b, down = ctx.saved_tensors
        gradient = above[0].flatten(0, -2)
        middle = gradient @ b
        middle *= ctx.scale
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradient @ weight
            for_x.addmm_(middle, a)
            for_x = for_x.view(ctx.shape)
        return for_x, None, None, middle.T @ rows, (gradient.T @ down).mul_(ctx.scale), None


def fused(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
) -> Tensor:
    """x W' + bias + scale x A' B', with gradients for x, A and B.

    Args:
        x: [..., in].
        weight: [out, in], frozen; so is `bias` [out].
        a: [rank, in].
        b: [out, rank].
        scale: alpha / rank, or what the variant of LoRA says.
    """
    out: Tensor = _Fused.apply(x, weight, bias, a, b, scale)  # type: ignore[no-untyped-call]
    return out
