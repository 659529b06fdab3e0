"""What `models.finetune` is told and what it says back: plain files, no torch needed to read."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_contracts.snapshots import Snapshot
from data_contracts.workspace import HomePath
from models.adapters import Adapter
from models.base import Base

METRICS = "metrics.json"
LOG = "train.log"
ADAPTER = "adapter"
PROBE = "probe.safetensors"
CHECKPOINTS = "checkpoints"
# Tokens at once that a later attempt keeps to, as memory ran out with more.
LESS = "micro_batch_tokens"
# Exit codes of a rank: stopped by SIGTERM after a checkpoint (sysexits' EX_TEMPFAIL).
PREEMPTED = 75
STOPPED = "stopped, after a checkpoint"


class Recipe(BaseModel):
    """How to fine-tune. Defaults suit a small chat data set on any model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1.0, gt=0, description="Passes over the training conversations.")
    max_steps: int | None = Field(
        default=None, gt=0, description="Stop after this many optimizer steps, if sooner."
    )
    batch_size: int = Field(
        default=8,
        gt=0,
        description="Conversations an optimizer step learns from, over all processes together.",
    )
    learning_rate: float = Field(default=4e-4, gt=0, description="Peak AdamW learning rate.")
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the steps that ramp the rate up."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this.")
    max_length: int = Field(
        default=512, gt=8, description="Tokens a conversation; what is beyond is cut and reported."
    )
    max_skipped: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Share of the conversations that may be left out because the chat template"
        " refuses them or nothing of them can be learnt; with more, nothing is trained.",
    )
    micro_batch_tokens: int | None = Field(
        default=None,
        gt=0,
        description="Tokens a process takes through the model at once; default what its memory"
        " holds. Changes memory and speed, not what is learnt.",
    )
    packing: bool | None = Field(
        default=None,
        description="Conversations in one row, each seeing itself alone, in place of padding;"
        " default where the model computes the same that way, which is tried.",
    )
    lora_rank: int = Field(default=16, gt=0, description="Rank of the LoRA update.")
    lora_alpha: int = Field(
        default=32, gt=0, description="LoRA scale: the update times alpha/rank."
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on LoRA's input.")
    dora: bool = Field(default=False, description="Weight-decomposed LoRA (Liu et al., 2024).")
    rslora: bool = Field(
        default=False, description="Scale by alpha/root of rank (Kalajdzievski, 2023)."
    )
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", description="Modules that get an adapter, as PEFT takes them."
    )
    quantize: Literal["none", "nf4"] = Field(
        default="none", description="`nf4` holds the base in 4 bits while training (QLoRA)."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Keep layers' inputs only and compute the rest twice."
    )
    compile: bool | None = Field(
        default=None,
        description="Layers through torch.compile; default once more than five minutes of training"
        " are left, which make up for the half minute that it takes, and without Liger's kernels.",
    )
    zero_stage: int = Field(default=2, ge=1, le=3, description="DeepSpeed ZeRO stage.")
    offload: Literal["none", "cpu", "nvme"] = Field(
        default="none",
        description="Where optimizer state is kept, and under ZeRO-3 the weights too.",
    )
    nvme_folder: str | None = Field(
        default=None, description="A folder on a fast disk, for `offload: nvme`."
    )
    validation_share: float = Field(
        default=0.05,
        ge=0,
        lt=0.5,
        description="Share of the training conversations that choose the best step; 0 for none.",
    )
    validations: int = Field(
        default=4, gt=0, description="Times that the adapter is validated, the last step included."
    )
    patience: int = Field(
        default=3, gt=0, description="Stop after this many validations without a new best."
    )
    checkpoint_steps: int = Field(
        default=50, gt=0, description="Steps between checkpoints: what a kill can lose."
    )
    hang_seconds: float = Field(
        default=1800,
        gt=0,
        description="A step that takes longer ends the job, saying where it hung.",
    )
    seed: int = Field(default=7, ge=0, description="Seed of initialisation, order and dropout.")

    @model_validator(mode="after")
    def _possible(self) -> "Recipe":
        if self.offload == "nvme" and self.nvme_folder is None:
            raise ValueError("offload nvme needs nvme_folder")
        if self.offload == "nvme" and self.zero_stage != 3:
            raise ValueError("offload nvme needs zero_stage 3")
        if self.quantize != "none" and self.zero_stage == 3:
            raise ValueError("a quantised base cannot be partitioned: set zero_stage to 1 or 2")
        if self.compile and not self.compilable:
            raise ValueError("compile needs zero_stage 1 or 2, and a base that is not quantised")
        return self

    @property
    def compilable(self) -> bool:
        """ZeRO-3 gathers weights within a layer, and a quantised base has kernels of its own."""
        return self.zero_stage < 3 and self.quantize == "none"


class FinetuneSpec(BaseModel):
    """One training job: read by every rank, so it names files and holds no secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Base
    data: Snapshot
    recipe: Recipe
    output: HomePath
    start: Adapter | None = Field(default=None, description="The adapter to go on from.")
    probe: int = Field(default=4, ge=1, description="Training items scored before saving.")

    @property
    def output_path(self) -> Path:
        return Path(self.output)


class StepMetrics(BaseModel):
    """One optimizer step, as printed on a line of its own by rank 0."""

    event: Literal["step"] = "step"
    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float
    memory_bytes: int = Field(default=0, description="Peak of rank 0 so far.")


class Phase(BaseModel):
    """What rank 0 is doing outside the steps."""

    event: Literal["phase"] = "phase"
    text: str


class Validated(BaseModel):
    """The adapter as saved at a step, scored by another process: nats a supervised token."""

    event: Literal["validated"] = "validated"
    step: int
    loss: float
    best: bool


class Failed(BaseModel):
    """The job cannot succeed, and trying again would not help."""

    event: Literal["failed"] = "failed"
    reason: str
    fix: str


class Crashed(BaseModel):
    """A rank met an error that it did not expect. Another attempt may end otherwise."""

    event: Literal["crashed"] = "crashed"
    rank: int
    error: str = Field(description="Its type and the first line of its message.")
    place: str = Field(description="`file:line` that raised it.")
    incidental: bool = Field(
        description="Whether it is about memory, or about another rank that went away: it says"
        " nothing of what the next attempt meets."
    )


class FinetuneMetrics(BaseModel):
    """What the whole job did. Losses in nats a supervised token, tokens without padding."""

    model_config = ConfigDict(frozen=True)

    steps: int
    processes: int
    conversations: int = Field(description="Learnt from; those to validate on are not counted.")
    skipped: int
    skipped_by: dict[str, int] = Field(default={}, description="The skipped ones by the reason.")
    changed: dict[str, int] = Field(
        default={}, description="Conversations that were adapted to the chat template, by how."
    )
    remarks: tuple[str, ...] = Field(
        default=(), description="What somebody may not expect of this model's training."
    )
    examples: int = Field(
        default=0, description="A conversation whose earlier turns the template rewrites has some."
    )
    turns_cut: int = Field(
        default=0, description="The assistant's turns that lie beyond the length limit."
    )
    truncated: int
    tokens_cut: int
    tokens: int
    supervised_tokens: int
    trainable_parameters: int
    packed: bool
    resumed_from: tuple[int, ...] = Field(description="Steps at which it went on after a stop.")
    best_step: int = Field(description="The step whose adapter this is.")
    validation_loss: float | None = None
    peak_memory_bytes: int = Field(description="Of the rank that took most.")
    start_seconds: float = Field(description="From the start of the job to its first step.")
    first_loss: float
    last_loss: float
    probe_loss: float
    probe_ids: tuple[str, ...]
    train_seconds: float
    total_seconds: float
    tokens_per_second: float
    device: str
    dtype: str


def emit(event: BaseModel) -> None:
    """Print one event as a JSON line, the way the launching task reads it.

    In one write: ranks share a pipe, and two that fail at once would print into each other's line.
    """
    sys.stdout.write(f"{event.model_dump_json()}\n")
    sys.stdout.flush()


class DetectorTraining(BaseModel):
    """How the detector is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(default=2, ge=1, le=6, description="Of the encoder's six, from below.")
    texts: int = Field(default=72_000, ge=100, description="Invented texts that it learns from.")
    tokens_a_batch: int = Field(default=2048, ge=128, description="With their padding, at most.")
    learning_rate: float = Field(default=4e-4, gt=0, description="Peak AdamW learning rate.")
    seed: int = Field(default=0, ge=0, description="Of the texts and their order.")
