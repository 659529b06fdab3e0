"""What a training takes, before it runs: memory of a rank, tokens, time, and the cost of it.

Activations are counted, not guessed: one forward pass of the model's first layers is traced on
tensors that have shapes and no memory, and what it keeps for the backward pass is summed up.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.chat import Example
from models.packing import step_count
from models.spec import Recipe

GIGABYTE = 2**30
# Python with torch, DeepSpeed and transformers; a CUDA context. Measured.
PROCESS_BYTES = 0.75 * GIGABYTE
CUDA_BYTES = 0.6 * GIGABYTE
# Tokens at once beyond which a CPU gets no faster: each pass has work of its own.
CPU_TOKENS = 2048
# On a CPU, of the activations of a step: what the allocator keeps of steps of other sizes. Measured
# after 24 steps of the bundled model.
ALLOCATED = 1.5
# Of the activations, what Liger's kernels keep of them. Measured in the shapes of 135M and 8B.
LIGER = 0.75
# Of the memory that is free when training starts.
SHARE = 0.8
TRACED_TOKENS = 512
# Where a model cannot be traced: numbers that a token leaves in a layer for the backward pass, of
# the hidden size and of the inner size. A little above what is traced of dense models.
RULE_HIDDEN, RULE_INNER = 16, 5
# Tokens at once beyond which a GPU gets no faster.
GPU_TOKENS = 32_768


class Shape(BaseModel):
    """Of a model with LoRA: parameters, and bytes that a token takes at a step's peak."""

    model_config = ConfigDict(frozen=True)

    parameters: int
    embedding: int = Field(description="Parameters that are looked up, not multiplied.")
    head: int = Field(description="Parameters of the output layer, the embedding's own if tied.")
    trainable: int
    token_bytes: float
    largest_layer: int = Field(description="Parameters of one layer: what ZeRO-3 has whole.")
    vocabulary: int
    rule: str | None = Field(
        default=None,
        description="Why the model could not be traced, where these are from a rule of thumb.",
    )


class Memory(BaseModel):
    """Bytes of one rank at its peak."""

    model_config = ConfigDict(frozen=True)

    process: float
    weights: float
    adapter: float = Field(description="Its weights, gradients and Adam's state.")
    activations: float
    loss: float = Field(description="Logits of one chunk and their gradient.")

    @property
    def total(self) -> float:
        return self.process + self.weights + self.adapter + self.activations + self.loss


def shape_of(
    config: Any, recipe: Recipe, element_bytes: int = 2, *, gpu: bool | None = None
) -> Shape:
    """Traced on tensors without memory, or by a rule of thumb where a model cannot be traced.

    What a model can be trained is never decided here: `Shape.rule` says why it was not traced.

    Args:
        config: a causal LM's transformers config.
        recipe: which LoRA, and whether layers are computed twice.
        element_bytes: of one weight or activation.
        gpu: whether it is trained on one, where attention keeps less; default whether there is one.
    """
    import torch

    from models.attention import FLASH, NAME

    gpu = torch.cuda.is_available() if gpu is None else gpu
    ours = FLASH if gpu and element_bytes == 2 else NAME
    reason = ""
    # The model's own attention where ours does not compute the same; half precision where a kernel
    # has no other: activations then take twice as much.
    for attention, traced_bytes in ((ours, element_bytes), (None, element_bytes), (None, 2)):
        try:
            shape = _traced_shape(config, recipe, traced_bytes, attention, gpu=gpu)
        except Exception as error:  # noqa: BLE001 - whatever it was, an estimate decides nothing
            first = (str(error).strip() or "no message").splitlines()[0]
            reason = reason or f"{type(error).__name__}: {first[:160]}"
            continue
        factor = element_bytes / traced_bytes
        return shape.model_copy(update={"token_bytes": shape.token_bytes * factor})
    return _shape_by_rule(config, recipe, element_bytes, reason)


def _traced_shape(
    config: Any, recipe: Recipe, element_bytes: int, attention: str | None, *, gpu: bool
) -> Shape:
    from models.kernels import has_liger

    def traced(recipe: Recipe) -> dict[int, _Trace]:
        return {few: _trace(config, recipe, few, element_bytes, attention) for few in (1, 2)}

    few = whole = traced(recipe)
    if recipe.gradient_checkpointing:
        whole = traced(recipe.model_copy(update={"gradient_checkpointing": False}))
    # The backward pass has the gradients of one layer beside what it kept, and what it kept of that
    # layer too where that is computed again.
    at_work = (whole[2].kept - whole[1].kept) * (2 if recipe.gradient_checkpointing else 1)
    layers = config.get_text_config().num_hidden_layers
    share = LIGER if gpu and has_liger(config.model_type) else 1.0

    def scaled(value: Callable[["_Trace"], float]) -> float:
        one, two = value(few[1]), value(few[2])
        return one + float(layers - 1) * (two - one)

    return Shape(
        parameters=int(scaled(lambda one: one.parameters)),
        embedding=few[1].embedding,
        head=few[1].head,
        trainable=int(scaled(lambda one: one.trainable)),
        token_bytes=(scaled(lambda one: one.kept) + at_work) * share / TRACED_TOKENS,
        largest_layer=few[2].parameters - few[1].parameters,
        vocabulary=config.get_text_config().vocab_size,
    )


def _shape_by_rule(config: Any, recipe: Recipe, element_bytes: int, reason: str) -> Shape:
    """From a few sizes of the config, as a dense transformer of that size has it."""
    text = config.get_text_config()

    def size(*names: str, default: int) -> int:
        return next(
            (int(v) for n in names if isinstance(v := getattr(text, n, None), int)), default
        )

    hidden = size("hidden_size", "n_embd", "d_model", default=4096)
    layers = size("num_hidden_layers", "n_layer", "num_layers", default=32)
    inner = size("intermediate_size", "n_inner", "ffn_dim", "d_ff", default=4 * hidden)
    heads = size("num_attention_heads", "n_head", "num_heads", default=max(1, hidden // 128))
    experts = size("num_local_experts", "num_experts", "n_routed_experts", default=1)
    vocabulary = size("vocab_size", default=128_000)
    layer = 4 * hidden**2 + 3 * hidden * inner * experts
    kept = RULE_HIDDEN * hidden + RULE_INNER * inner + heads * TRACED_TOKENS
    kept_layers = (1 if recipe.gradient_checkpointing else layers) + 1
    head = vocabulary * hidden
    return Shape(
        parameters=layers * layer + 2 * head,
        embedding=head,
        head=head,
        trainable=layers * recipe.lora_rank * (11 * hidden + 3 * inner),
        token_bytes=float(element_bytes * (kept_layers * kept + layers * hidden)),
        largest_layer=layer,
        vocabulary=vocabulary,
        rule=reason,
    )


@dataclass
class _Trace:
    parameters: int
    embedding: int
    head: int
    trainable: int
    kept: float


def _trace(
    config: Any, recipe: Recipe, layers: int, element_bytes: int, attention: str | None
) -> _Trace:
    import copy
    import logging

    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM

    from models.attention import register
    from models.lora import attach_lora, fuse

    small = copy.deepcopy(config)
    small.get_text_config().num_hidden_layers = layers
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # ours is caught
    if getattr(small.get_text_config(), "layer_types", None):
        small.get_text_config().layer_types = small.get_text_config().layer_types[:layers]
    register()
    dtype = torch.float32 if element_bytes == 4 else torch.bfloat16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(small, dtype=dtype, attn_implementation=attention)
        model.requires_grad_(False)
        parameters = sum(one.numel() for one in model.parameters())
        embedding = model.get_input_embeddings().weight.numel()
        head = model.get_output_embeddings().weight.numel()
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        tuned = attach_lora(model, recipe)
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    fuse(tuned)
    trainable = sum(one.numel() for one in tuned.parameters() if one.requires_grad)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _materialise(tuned)
        owned = {one.untyped_storage()._cdata for one in tuned.parameters()}
        kept: dict[int, tuple[int, Any]] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in owned:
                kept[storage._cdata] = (storage.nbytes(), storage)
            return tensor

        body = getattr(model, model.base_model_prefix)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = body(
                input_ids=torch.zeros(1, TRACED_TOKENS, dtype=torch.long), use_cache=False
            ).last_hidden_state
        del hidden
    return _Trace(
        parameters=parameters,
        embedding=0 if tied else embedding,
        head=head,
        trainable=trainable,
        kept=float(sum(size for size, _ in kept.values())),
    )


def _materialise(model: Any) -> None:
    """Tensors on the CPU in place of those on `meta`, where attention has another kernel."""
    import torch

    for module in model.modules():
        for name, one in list(module._parameters.items()):
            if one is not None:
                real = torch.empty(one.shape, dtype=one.dtype)
                module._parameters[name] = torch.nn.Parameter(real, one.requires_grad)
        for name, one in list(module._buffers.items()):
            if one is not None:
                module._buffers[name] = torch.empty(one.shape, dtype=one.dtype)


def fitting_tokens(shape: Shape) -> int:
    """Tokens of a micro-batch that fit into the memory this rank has left, its model loaded."""
    import torch

    gpu = torch.cuda.is_available()
    return tokens_within(free_bytes() * SHARE - loss_bytes(shape, gpu=gpu), shape, gpu=gpu)


def tokens_within(room: float, shape: Shape, *, gpu: bool) -> int:
    """Tokens whose activations take `room` bytes, or as many as make the device fast."""
    most = GPU_TOKENS if gpu else CPU_TOKENS
    return max(1, min(most, int(room / shape.token_bytes)))


def free_bytes() -> float:
    """Of this rank's GPU; or its share of the machine's memory, where there is none."""
    import os

    import psutil
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available / int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def loss_bytes(shape: Shape, *, gpu: bool) -> float:
    """Logits of one chunk and their gradient; on a GPU also both in float32, all rows at once."""
    from models.loss import CHUNK, GPU_CHUNK

    return (GPU_CHUNK if gpu else CHUNK) * shape.vocabulary * (2 + 2 + 2 * 4.0)


class Machine(BaseModel):
    """What a training runs on."""

    model_config = ConfigDict(frozen=True)

    ranks: int = Field(description="Processes of all nodes together.")
    memory_bytes: float = Field(description="That one rank can use.")
    flops: float = Field(description="Rate of one rank's matrix products, all ranks at work.")
    share: float = Field(description="Of that rate that training reaches.")
    gpu: bool
    name: str


class Work(BaseModel):
    """What is to be learnt."""

    model_config = ConfigDict(frozen=True)

    conversations: int
    tokens: float = Field(description="Of one conversation, on average.")
    supervised: float = Field(description="Share of the tokens that carry loss.")
    longest: int = Field(description="Tokens of the longest conversation.")

    @classmethod
    def of(cls, examples: Sequence[Example], conversations: int | None = None) -> "Work":
        """As these encoded conversations are, or so many that are like them."""
        lengths = [len(example.input_ids) for example in examples]
        different = len({example.id for example in examples})
        return cls(
            conversations=conversations or different,
            tokens=sum(lengths) / different,
            supervised=sum(example.supervised for example in examples) / sum(lengths),
            longest=max(lengths),
        )


class Plan(BaseModel):
    """A training as it will be, if the estimates hold."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    shape: Shape
    steps: int
    tokens: float = Field(description="Through the model in all, without padding.")
    micro_batch_tokens: int
    memory: Memory
    fits: bool
    tokens_per_second: float
    seconds: float
    cost: float | None = Field(description="At the price given for an hour of the whole machine.")
    notes: tuple[str, ...] = Field(
        default=(), description="What was left out, adapted, or could not be found out."
    )


def plan(
    shape: Shape,
    recipe: Recipe,
    work: Work,
    machine: Machine,
    element_bytes: int = 2,
    price: float | None = None,
) -> Plan:
    """Predict a training.

    Args:
        shape: of the model with its adapter.
        recipe: how it is trained.
        work: the conversations.
        machine: what it runs on.
        element_bytes: of one weight.
        price: of an hour of the whole machine.
    """
    steps = step_count(work.conversations, recipe.batch_size, recipe.epochs, recipe.max_steps)
    of_a_step = min(recipe.batch_size, work.conversations) * work.tokens
    # A rank's share of a step, and one conversation more, as they do not divide evenly.
    own = max(float(work.longest), of_a_step / machine.ranks + work.tokens / 2)
    fixed = memory_of(shape, recipe, machine, 0, element_bytes)
    room = machine.memory_bytes * (1.0 if machine.gpu else SHARE) - fixed.total
    budget = recipe.micro_batch_tokens or tokens_within(room, shape, gpu=machine.gpu)
    at_once = min(own, max(budget, work.longest))
    memory = memory_of(shape, recipe, machine, at_once, element_bytes)
    tokens = steps * of_a_step
    rate = machine.ranks * machine.flops * machine.share
    per_second = rate / flops_a_token(shape, recipe, work.supervised)
    seconds = tokens / per_second
    return Plan(
        machine=machine,
        shape=shape,
        steps=steps,
        tokens=tokens,
        micro_batch_tokens=budget,
        memory=memory,
        fits=memory.total <= machine.memory_bytes,
        tokens_per_second=per_second,
        seconds=seconds,
        cost=None if price is None else price * seconds / 3600,
    )


def flops_a_token(shape: Shape, recipe: Recipe, supervised: float) -> float:
    """Of a token's forward and backward pass, attention's own products left out.

    Frozen weights take a product forward and one for the gradient of their input, two operations
    a weight each; an adapter's take three; the output layer works on supervised tokens alone.
    Layers that are computed twice take one more.
    """
    again = 1 if recipe.gradient_checkpointing else 0
    layers = shape.parameters - shape.embedding - shape.head
    return (
        (4 + 2 * again) * layers + (6 + 2 * again) * shape.trainable + 4 * shape.head * supervised
    )


def memory_of(
    shape: Shape, recipe: Recipe, machine: Machine, tokens: float, element_bytes: int
) -> Memory:
    """Of one rank that takes `tokens` at once."""
    parts = machine.ranks if recipe.zero_stage == 3 else 1
    weight = 0.55 if recipe.quantize == "nf4" else float(element_bytes)
    weights = shape.parameters * weight / parts
    if parts > 1:  # two layers are whole at a time: the one at work and the one after it
        weights += weight * (2 * shape.largest_layer + shape.head)
    if recipe.offload != "none" and recipe.zero_stage == 3:
        weights = weight * (2 * shape.largest_layer + shape.head)
    # Weights and gradients in the model's format, and Adam's state and a gradient in float32.
    state = 0.0 if recipe.offload != "none" and machine.gpu else 16.0 / machine.ranks
    return Memory(
        process=CUDA_BYTES if machine.gpu else PROCESS_BYTES,
        weights=weights,
        adapter=shape.trainable * (2.0 * element_bytes + state),
        activations=shape.token_bytes * tokens * (1.0 if machine.gpu else ALLOCATED),
        loss=loss_bytes(shape, gpu=machine.gpu),
    )


def matrix_rate(dtype: Any, seconds: float = 0.5) -> float:
    """Operations a second of products large enough for this device, measured here and now."""
    import torch

    device, size = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 2048)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        left @ right
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        count += 4
    return 2.0 * size**3 * count / (time.perf_counter() - started)
