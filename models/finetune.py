"""LoRA fine-tuning with DeepSpeed: one spec file in, an adapter folder and metrics out.

    torchrun --nproc_per_node 2 -m models.finetune SPEC.json

Every rank runs this file from top to bottom. Rank 0 prints one JSON line an event
(`models.spec`) and writes the results, whole or not at all.
"""

import contextlib
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from models.base import load_tokenizer, load_weights, settle_accelerator, torch_dtype

settle_accelerator()  # before the next import reads it

import deepspeed
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model

from data_contracts.errors import EvergreenError, TrainingError
from models.adapters import save_adapter
from models.chat import Example, collate, encode_all
from models.score import mean_loss, score, token_losses
from models.spec import (
    ADAPTER,
    METRICS,
    FinetuneMetrics,
    FinetuneSpec,
    Phase,
    Recipe,
    StepMetrics,
    emit,
)


def finetune(spec: FinetuneSpec) -> None:
    """Train one adapter. Writes `spec.output/adapter/` and `spec.output/metrics.json` (last)."""
    started = time.perf_counter()
    recipe = spec.recipe
    say("starting the processes")
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", verbose=False)
    rank, world = dist.get_rank(), dist.get_world_size()
    seed_everything(recipe.seed)

    say("loading the base model and the conversations")
    tokenizer = load_tokenizer(spec.base)
    config = engine_config(recipe, torch_dtype(spec.base.dtype))
    # Under ZeRO-3 transformers must know of the engine before it loads the weights.
    zero3 = hf_deepspeed_config(config) if recipe.zero_stage == 3 else None
    model = attach_lora(load_weights(spec.base), recipe)
    examples, report = encode_all(
        tokenizer,
        ((record.id, record.messages) for record in spec.data.records()),
        recipe.max_length,
    )
    if not examples:
        raise TrainingError(
            f"none of {len(report.skipped)} conversations has an assistant turn within"
            f" {recipe.max_length} tokens",
            "raise train.max_length or check the data",
        )
    plan = plan_steps(examples, recipe, world)

    say("starting DeepSpeed")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainable_count = sum(getattr(p, "ds_numel", p.numel()) for p in trainable)
    optimizer = torch.optim.AdamW(
        trainable, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    engine.train()

    losses: list[float] = []
    tokens = supervised_total = 0
    training = time.perf_counter()
    for step, micro_batches in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(plan), recipe)
        own = micro_batches[rank::world]
        everything = [examples[i] for batch in micro_batches for i in batch]
        supervised = sum(example.supervised for example in everything)
        total = torch.zeros((), device=engine.device)
        for batch_indices in own:
            batch = to_device(collate([examples[i] for i in batch_indices], tokenizer.pad_token_id))
            logits = engine(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
            loss_sum = token_losses(logits, batch["labels"]).sum()
            # Every supervised token of the global batch weighs the same: DeepSpeed
            # averages gradients over `world` ranks and `len(own)` micro-batches.
            engine.backward(loss_sum * (world * len(own) / supervised))
            engine.step()
            total += loss_sum.detach()
        dist.all_reduce(total)
        losses.append(total.item() / supervised)
        if not math.isfinite(losses[-1]):
            raise TrainingError(
                f"the loss became {losses[-1]} at step {step + 1}", "lower train.learning_rate"
            )
        tokens += sum(len(example.input_ids) for example in everything)
        supervised_total += supervised
        if rank == 0:
            elapsed = time.perf_counter() - training
            emit(
                StepMetrics(
                    step=step + 1,
                    steps=len(plan),
                    loss=losses[-1],
                    learning_rate=optimizer.param_groups[0]["lr"],
                    tokens_per_second=tokens / elapsed,
                    eta_seconds=elapsed / (step + 1) * (len(plan) - step - 1),
                )
            )
    train_seconds = time.perf_counter() - training

    say("gathering and saving the adapter")
    probe = examples[: spec.probe]
    with gathered(trainable, recipe):
        engine.eval()
        # Under ZeRO-3 a forward pass is collective, so every rank scores the probe.
        probe_loss = mean_loss(score(engine.module, probe, tokenizer.pad_token_id))
        if rank == 0:
            save_adapter(engine.module, spec.output_path / ADAPTER, spec.base)
    if rank == 0:
        metrics = FinetuneMetrics(
            steps=len(plan),
            processes=world,
            conversations=len(examples),
            skipped=len(report.skipped),
            truncated=report.truncated,
            tokens_cut=report.tokens_cut,
            tokens=tokens,
            supervised_tokens=supervised_total,
            trainable_parameters=trainable_count,
            first_loss=losses[0],
            last_loss=sum(losses[-5:]) / len(losses[-5:]),
            probe_loss=probe_loss,
            probe_ids=tuple(example.id for example in probe),
            train_seconds=train_seconds,
            total_seconds=time.perf_counter() - started,
            tokens_per_second=tokens / train_seconds,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            dtype=str(torch_dtype(spec.base.dtype)).removeprefix("torch."),
        )
        (spec.output_path / METRICS).write_text(metrics.model_dump_json(indent=2), encoding="utf-8")
    del zero3
    dist.barrier()
    dist.destroy_process_group()


def plan_steps(examples: list[Example], recipe: Recipe, world: int) -> list[list[list[int]]]:
    """Which examples each step takes: steps -> micro-batches -> example indices.

    Examples of similar length share a step, so that little is padded; the order of
    the steps is shuffled. Every step has `world * gradient_accumulation` micro-batches
    (rank r takes every world-th from r on); where an epoch does not divide evenly the
    last of them are smaller, or hold the epoch's first example again when it runs out.
    """
    order = random.Random(recipe.seed)
    micro_batches = world * recipe.gradient_accumulation
    step_size = micro_batches * recipe.micro_batch_size
    per_epoch = math.ceil(len(examples) / step_size)
    wanted = max(1, math.ceil(per_epoch * recipe.epochs))
    steps: list[list[list[int]]] = []
    while len(steps) < wanted:
        indices = list(range(len(examples)))
        order.shuffle(indices)
        indices.sort(key=lambda index: len(examples[index].input_ids))
        groups = [indices[at : at + step_size] for at in range(0, len(indices), step_size)]
        order.shuffle(groups)
        steps += [
            [group[part::micro_batches] or group[:1] for part in range(micro_batches)]
            for group in groups
        ]
    wanted = min(wanted, recipe.max_steps or wanted)
    return steps[:wanted]


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak (Loshchilov & Hutter, 2017)."""
    warmup = max(1, round(steps * recipe.warmup_ratio))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def engine_config(recipe: Recipe, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's configuration for this recipe."""
    return {
        "train_micro_batch_size_per_gpu": recipe.micro_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        "gradient_clipping": recipe.max_grad_norm,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
        "zero_optimization": {"stage": recipe.zero_stage},
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
    }


def hf_deepspeed_config(config: dict[str, Any]) -> object:
    from transformers.integrations import HfDeepSpeedConfig

    handle: object = HfDeepSpeedConfig(config)
    return handle


def attach_lora(model: Any, recipe: Recipe) -> Any:
    target: str | list[str] = (
        recipe.target_modules
        if isinstance(recipe.target_modules, str)
        else list(recipe.target_modules)
    )
    try:
        return get_peft_model(
            model,
            LoraConfig(
                r=recipe.lora_rank,
                lora_alpha=recipe.lora_alpha,
                lora_dropout=recipe.lora_dropout,
                target_modules=target,
                task_type="CAUSAL_LM",
            ),
            autocast_adapter_dtype=False,
        )
    except ValueError as error:
        raise TrainingError(
            f"cannot attach LoRA to {target!r} ({str(error).splitlines()[0]})",
            "correct train.target_modules",
        ) from error


@contextlib.contextmanager
def gathered(parameters: list[Any], recipe: Recipe) -> Iterator[None]:
    """Whole parameters on every rank: under ZeRO-3 each otherwise holds only its part."""
    if recipe.zero_stage == 3:
        with deepspeed.zero.GatheredParameters(parameters):
            yield
    else:
        yield


def to_device(batch: dict[str, Any]) -> dict[str, Any]:
    device = deepspeed.get_accelerator().current_device_name()
    return {name: tensor.to(device) for name, tensor in batch.items()}


def seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)


def say(text: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        emit(Phase(text=text))


def main() -> int:
    spec = FinetuneSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        finetune(spec)
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
