"""What lies between a layer's matrix products in fewer passes: Liger's kernels, `torch.compile`.

Compiling takes half a minute, less where it was done before, and saves a fifth of each step of the
bundled model on a CPU; so it waits until a training has shown how long it will take. Where Liger's
kernels are at work there is less to save, and it is not done unless asked for.
"""

from typing import Any

import torch

from models.attention import NAME as ISOLATED
from models.attention import isolated_attention
from models.spec import Recipe

# Steps that an attempt takes before it is judged: the first are slower than those after them.
SEEN = 3
# Seconds of training that must be left.
WORTH = 300.0


def pays(recipe: Recipe, seconds: float, steps_left: int, *, liger: bool) -> bool:
    """Whether to compile now, `seconds` being those of the latest step."""
    if recipe.compile is not None:
        return recipe.compile
    return recipe.compilable and not liger and seconds * steps_left > WORTH


def has_liger(model_type: str) -> bool:
    """Whether there is a GPU, and Liger's kernels for such a model."""
    from transformers.utils.import_utils import is_liger_kernel_available

    if not torch.cuda.is_available() or not is_liger_kernel_available():
        return False
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    return model_type in MODEL_TYPE_TO_APPLY_LIGER_FN


def use_liger(model: Any) -> bool:
    """Norms, rotary positions and activations by Liger's kernels where there are any; whether they
    are used. The loss is `models.loss` anyway."""
    from transformers.integrations.liger import apply_liger_kernel

    if not has_liger(model.config.model_type):
        return False
    apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "cross_entropy": False})
    return True


def compile_layers(model: Any) -> int:
    """Have every decoder layer compiled when it is called next; how many there are.

    Conversations of all lengths share the code. What cannot be compiled (no compiler on the
    machine, an operation that is not known) goes on as it was.
    """
    from transformers import AttentionInterface
    from transformers.modeling_layers import GradientCheckpointingLayer

    # Its loop would be compiled anew for each set of conversations' lengths.
    AttentionInterface.register(ISOLATED, torch.compiler.disable(isolated_attention))  # type: ignore[no-untyped-call]
    torch._dynamo.config.suppress_errors = True
    layers = [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    return len(layers)
