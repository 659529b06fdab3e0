"""`torch.compile` where it pays: what lies between a layer's matrix products, in fewer passes.

Compiling takes half a minute, less where it was done before, and saves a fifth of each step of the
bundled model on a CPU; so it waits until a training has shown how long it will take.
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


def pays(recipe: Recipe, seconds: float, steps_left: int) -> bool:
    """Whether to compile now, `seconds` being those of the latest step."""
    if recipe.zero_stage == 3 or recipe.quantize != "none":
        return False  # weights are gathered within a layer; or kernels are the quantiser's own
    return seconds * steps_left > WORTH if recipe.compile is None else recipe.compile


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
