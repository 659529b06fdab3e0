"""What `models.finetune` is told and what it says back: plain files, no torch needed to read."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.snapshots import Snapshot
from models.base import Base

METRICS = "metrics.json"
ADAPTER = "adapter"


class Recipe(BaseModel):
    """How to fine-tune. Defaults suit a small chat data set on any model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=1.0, gt=0, description="Passes over the training conversations.")
    max_steps: int | None = Field(
        default=None, gt=0, description="Stop after this many optimizer steps, if sooner."
    )
    learning_rate: float = Field(default=4e-4, gt=0, description="Peak AdamW learning rate.")
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the steps that ramp the rate up."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Gradients are clipped to this.")
    micro_batch_size: int = Field(
        default=4, gt=0, description="Conversations a process takes through the model at once."
    )
    gradient_accumulation: int = Field(
        default=1, gt=0, description="Micro-batches a process sums up per optimizer step."
    )
    max_length: int = Field(
        default=512, gt=8, description="Tokens a conversation; what is beyond is cut and reported."
    )
    lora_rank: int = Field(default=16, gt=0, description="Rank of the LoRA update.")
    lora_alpha: int = Field(
        default=32, gt=0, description="LoRA scale: the update times alpha/rank."
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on LoRA's input.")
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", description="Modules that get an adapter, as PEFT takes them."
    )
    zero_stage: int = Field(default=2, ge=0, le=3, description="DeepSpeed ZeRO stage.")
    seed: int = Field(default=7, ge=0, description="Seed of initialisation, order and dropout.")


class FinetuneSpec(BaseModel):
    """One training job: read by every rank, so it names files and holds no secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Base
    data: Snapshot
    recipe: Recipe
    output: str
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


class Phase(BaseModel):
    """What rank 0 is doing outside the steps."""

    event: Literal["phase"] = "phase"
    text: str


class FinetuneMetrics(BaseModel):
    """What the whole job did. Losses in nats a supervised token, tokens without padding."""

    model_config = ConfigDict(frozen=True)

    steps: int
    processes: int
    conversations: int
    skipped: int
    truncated: int
    tokens_cut: int
    tokens: int
    supervised_tokens: int
    trainable_parameters: int
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
    """Print one event as a JSON line, the way the launching task reads it."""
    print(event.model_dump_json(), flush=True)


class DetectorTraining(BaseModel):
    """How the detector is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(default=2, ge=1, le=6, description="Of the encoder's six, from below.")
    texts: int = Field(default=24_000, ge=100, description="Invented texts that it learns from.")
    tokens_a_batch: int = Field(default=2048, ge=128, description="With their padding, at most.")
    learning_rate: float = Field(default=4e-4, gt=0, description="Peak AdamW learning rate.")
    seed: int = Field(default=0, ge=0, description="Of the texts and their order.")
