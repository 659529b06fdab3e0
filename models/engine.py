"""DeepSpeed as configured by a recipe, and what of its state a checkpoint holds."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from models.spec import Recipe

Named = dict[str, Any]


def engine_config(recipe: Recipe, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's configuration for this recipe."""
    zero: dict[str, Any] = {"stage": recipe.zero_stage}
    if recipe.offload != "none":
        where: dict[str, Any] = {"device": recipe.offload, "pin_memory": torch.cuda.is_available()}
        if recipe.offload == "nvme":
            where["nvme_path"] = recipe.nvme_folder
        zero["offload_optimizer"] = where
        if recipe.zero_stage == 3:
            zero["offload_param"] = where
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.max_grad_norm,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": sys.maxsize,
    }


def know_zero3(config: dict[str, Any]) -> object:
    """Have transformers partition weights as it loads them, for as long as this object lives."""
    from transformers.integrations import HfDeepSpeedConfig

    handle: object = HfDeepSpeedConfig(config)
    return handle


def trained(module: torch.nn.Module) -> Named:
    """{name: parameter} of what learns."""
    return {name: one for name, one in module.named_parameters() if one.requires_grad}


@contextlib.contextmanager
def gathered(parameters: Named, recipe: Recipe) -> Iterator[None]:
    """Whole parameters on every rank: under ZeRO-3 each otherwise holds only its part."""
    import deepspeed

    if recipe.zero_stage == 3:
        with deepspeed.zero.GatheredParameters(list(parameters.values())):
            yield
    else:
        yield


def state(parameters: Named) -> Named:
    """Weights and Adam's moments in float32, whole, on every rank (a collective call)."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    found: Named = {}
    for name, one in parameters.items():
        found[f"weight/{name}"] = safe_get_full_fp32_param(one)
        for moment in ("exp_avg", "exp_avg_sq"):
            found[f"{moment}/{name}"] = safe_get_full_optimizer_state(one, moment)
    return {name: one.detach().float().cpu().contiguous() for name, one in found.items()}


def load_weights_of(parameters: Named, stored: Named) -> None:
    """Before DeepSpeed starts: the weights in the model's own number format."""
    with torch.no_grad():
        for name, one in parameters.items():
            one.copy_(stored[f"weight/{name}"])


def restore(engine: Any, optimizer: Any, parameters: Named, stored: Named, step: int) -> None:
    """After DeepSpeed started and took a step of nothing, which made its state: fill it."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    for name, one in parameters.items():
        safe_set_full_fp32_param(one, stored[f"weight/{name}"].to(engine.device))
        for moment in ("exp_avg", "exp_avg_sq"):
            value = stored[f"{moment}/{name}"].to(engine.device)
            safe_set_full_optimizer_state(one, value, moment)
    for one in optimizer.state.values():
        if torch.is_tensor(one.get("step")):
            one["step"].fill_(step)
