"""LoRA fine-tuning with DeepSpeed: one spec file in, an adapter folder and metrics out.

    torchrun --nproc_per_node 2 -m models.finetune SPEC.json

Every rank runs this file from top to bottom. Rank 0 prints one JSON line an event
(`models.spec`) and writes the results, whole or not at all. Started again with the same spec after
it was killed, it goes on from the last whole checkpoint, with as many ranks as there are then.
"""

import faulthandler
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from models.base import load_config, load_tokenizer, load_weights, settle_accelerator, torch_dtype

settle_accelerator()  # before the next import reads it

import deepspeed
import torch
import torch.distributed as dist
from safetensors import SafetensorError

from data_contracts.disk import disk_error
from data_contracts.errors import EvergreenError, TrainingError
from data_contracts.partial import partial_folder, publish, remove_abandoned, write_whole
from models import checkpoints
from models.adapters import save_adapter
from models.chat import Example
from models.checkpoints import Progress
from models.crashes import describe_crash
from models.encoding import conversations, read_encoding, validation_split
from models.engine import (
    Named,
    engine_config,
    gathered,
    know_zero3,
    load_weights_of,
    restore,
    state,
    trained,
)
from models.kernels import SEEN, compile_layers, pays, use_liger
from models.lora import attach_lora, fuse, remarks_on
from models.memory import keep_memory, release
from models.objective import Objective
from models.packing import Layout, example_steps, layout
from models.plan import Shape, fitting_tokens, shape_of
from models.probe import Probe
from models.spec import (
    ADAPTER,
    CHECKPOINTS,
    LESS,
    METRICS,
    PREEMPTED,
    PROBE,
    STOPPED,
    Failed,
    FinetuneMetrics,
    FinetuneSpec,
    Phase,
    Recipe,
    StepMetrics,
    Validated,
    emit,
)
from models.validate import Validator

CANDIDATES = "candidates"
# A mean loss (nats) above this many times that of guessing is an explosion.
EXPLODED = 2.0


@dataclass
class Job:
    """A training that is under way on this rank."""

    spec: FinetuneSpec
    examples: list[Example]
    order: list[list[int]]
    engine: Any
    optimizer: Any
    objective: Objective
    parameters: Named
    budget: int
    vocabulary: int
    remarks: tuple[str, ...]
    liger: bool
    progress: Progress
    validator: Validator | None = None

    def __post_init__(self) -> None:
        self.lengths = [len(example.input_ids) for example in self.examples]

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def world(self) -> int:
        return dist.get_world_size()

    @property
    def recipe(self) -> Recipe:
        return self.spec.recipe

    def layout(self, number: int) -> Layout:
        padded = not self.objective.packed
        return layout(self.lengths, self.order[number], self.world, self.budget, padded=padded)

    @property
    def output(self) -> Path:
        return self.spec.output_path


class Preempted(Exception):
    """SIGTERM came, and a checkpoint was written."""


def finetune(spec_file: Path, store: Path | None = None) -> None:
    """Train one adapter. Writes `adapter/` and `metrics.json` (last) to the spec's output.

    Args:
        spec_file: the job, a `FinetuneSpec`.
        store: the file in which the ranks of one machine meet, new to them; where there is none
            they meet as `torchrun` says.

    Raises:
        EvergreenError: with the reason; another try would end the same.
        Preempted: SIGTERM came; a checkpoint was written.
    """
    started = time.perf_counter()
    spec = FinetuneSpec.model_validate_json(spec_file.read_text(encoding="utf-8"))
    end_with_parent()
    keep_memory()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    say("starting the processes")
    if torch.cuda.is_available():  # before weights are loaded, which 4 bits are on the GPU
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    connect(store)

    say("loading the base model and the conversations")
    tokenizer = load_tokenizer(spec.base)
    encoded, encoding = read_encoding(spec)
    examples, validation = validation_split(encoded, spec.recipe.validation_share)
    try:
        job = prepare(spec, examples, tokenizer)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the base model does not fit into the GPU's memory",
            "set train.quantize: nf4, or train.zero_stage: 3 on several GPUs or with offload",
        ) from error
    if validation and dist.get_rank() == 0:
        job.validator = Validator(spec_file, on_gpu=has_room(spec))
    start_seconds = time.perf_counter() - started
    try:
        train(job, stop, validating=bool(validation))
    except torch.OutOfMemoryError:
        take_less(job)
        raise
    finally:
        if job.validator is not None:
            job.validator.close()

    say("saving the adapter")
    peak = torch.tensor(float(peak_memory()), device=job.engine.device)
    dist.all_reduce(peak, op=dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        best = job.progress.best_step or job.progress.step
        finished = job.output / CANDIDATES / f"step-{best:07d}"
        losses, probe = job.progress.losses, examples[: spec.probe]
        metrics = FinetuneMetrics(
            steps=job.progress.step,
            processes=dist.get_world_size(),
            conversations=len(conversations(examples)),
            examples=len(examples),
            skipped=sum(encoding.skipped.values()),
            skipped_by=encoding.skipped,
            changed=encoding.changed,
            remarks=job.remarks,
            turns_cut=encoding.turns_cut,
            truncated=encoding.truncated,
            tokens_cut=encoding.tokens_cut,
            tokens=job.progress.tokens,
            supervised_tokens=job.progress.supervised_tokens,
            trainable_parameters=count(job.parameters),
            packed=job.objective.packed,
            resumed_from=job.progress.resumed_from,
            best_step=best,
            validation_loss=job.progress.best_loss,
            first_loss=losses[0],
            last_loss=sum(losses[-5:]) / len(losses[-5:]),
            probe_loss=Probe.read(finished / PROBE).loss,
            probe_ids=tuple(example.id for example in probe),
            peak_memory_bytes=int(peak),
            start_seconds=start_seconds,
            train_seconds=job.progress.seconds,
            total_seconds=time.perf_counter() - started,
            tokens_per_second=job.progress.tokens / job.progress.seconds,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            dtype=str(torch_dtype(spec.base.dtype)).removeprefix("torch."),
        )
        # What takes room is written before anything moves; the file that says so moves last.
        write_whole(finished / METRICS, metrics.model_dump_json(indent=2))
        for name in (ADAPTER, PROBE, METRICS):
            remove(job.output / name)
            (finished / name).rename(job.output / name)
        for name in (CANDIDATES, CHECKPOINTS, LESS):
            remove(job.output / name)
    dist.barrier()
    dist.destroy_process_group()


def connect(store: Path | None) -> None:
    """Join the other ranks."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if store is None:
        deepspeed.init_distributed(backend, verbose=False)
        return
    deepspeed.init_distributed(
        backend,
        init_method=f"file://{store}",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        verbose=False,
    )


def prepare(spec: FinetuneSpec, examples: list[Example], tokenizer: Any) -> Job:
    """Model, adapter, engine and how far an earlier attempt came."""
    recipe, dtype = spec.recipe, torch_dtype(spec.base.dtype)
    config = engine_config(recipe, dtype)
    # Traced before the engine is known to transformers, which would partition what is traced, and
    # before Liger's kernels, which take no tensors without memory.
    shape = shape_of(load_config(spec.base), recipe, dtype.itemsize)
    # Under ZeRO-3 transformers must know of the engine before it loads the weights.
    _zero3 = know_zero3(config) if recipe.zero_stage == 3 else None
    model = load_weights(spec.base, recipe.quantize)
    liger = use_liger(model)
    if liger:
        say("using Liger's kernels")
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    seed_everything(recipe.seed)  # after loading, which draws more or less under other stages
    model = attach_lora(model, recipe, spec.start)
    remarks = remarks_on(model)
    if shape.rule:
        remarks.append(f"memory is estimated by a rule of thumb ({shape.rule})")
    if recipe.zero_stage < 3:
        fuse(model)
    objective = Objective(model, tokenizer.pad_token_id, whole_head=recipe.zero_stage == 3)
    parameters = trained(objective)
    shapes = {name: tuple(one.shape) for name, one in parameters.items()}
    checkpoint, progress, stored = last_checkpoint(spec, shapes)
    if checkpoint is not None:
        load_weights_of(parameters, stored)

    say("starting DeepSpeed")
    # Its buffer for gradients; by default it takes half a billion numbers, whatever is trained.
    config["zero_optimization"]["reduce_bucket_size"] = count(parameters)
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=config)
    device = engine.device
    engine.eval()
    padded_because = objective.settle(examples, device, recipe.packing)
    if padded_because:
        remarks.append(f"conversations are padded, not packed: {padded_because}")
    for remark in remarks:
        say(remark)
    engine.train()
    if checkpoint is not None:
        set_rate(optimizer, 0.0)
        engine.backward(engine(**objective.batch(examples[:1], device)) * 0)
        engine.step()
        restore(engine, optimizer, parameters, stored, progress.step)
    return Job(
        spec=spec,
        examples=examples,
        order=example_steps(
            conversations(examples),
            recipe.batch_size,
            recipe.epochs,
            recipe.max_steps,
            recipe.seed,
        ),
        engine=engine,
        optimizer=optimizer,
        objective=objective,
        parameters=parameters,
        budget=agreed(tokens_at_once(spec, shape)),
        vocabulary=shape.vocabulary,
        remarks=tuple(remarks),
        liger=liger,
        progress=progress,
    )


def tokens_at_once(spec: FinetuneSpec, shape: Shape) -> int:
    """Of this rank, its model loaded: as asked, or what fits; less where memory ran out with it."""
    tokens = spec.recipe.micro_batch_tokens or fitting_tokens(shape)
    less = spec.output_path / LESS
    if less.exists():
        tokens = min(tokens, int(less.read_text(encoding="utf-8")))
        say(f"at most {tokens} tokens at once, as memory ran out with more")
    return tokens


def take_less(job: Job) -> None:
    """Have the next attempt take half of the tokens at once with which memory ran out.

    Raises:
        TrainingError: that was one conversation.
    """
    number = min(job.progress.step, len(job.order) - 1)
    batches = [
        [job.lengths[index] for index in batch] for batch in job.layout(number).ranks[job.rank]
    ]
    most = max(batches, key=sum)
    if len(most) == 1:
        raise TrainingError(
            f"the GPU's memory does not hold the {most[0]} tokens of one conversation",
            "set train.gradient_checkpointing or train.quantize, or lower train.max_length",
        )
    write_whole(job.output / LESS, str(sum(most) // 2))


def last_checkpoint(
    spec: FinetuneSpec, shapes: dict[str, tuple[int, ...]]
) -> tuple[Path | None, Progress, Named]:
    """The newest that is whole and fits, the same for every rank; else the beginning."""
    folder = spec.output_path / CHECKPOINTS
    chosen = torch.tensor(-1, device=own_device())
    if dist.get_rank() == 0:
        remove_abandoned(folder)
        for _, progress in checkpoints.whole(folder):
            chosen.fill_(progress.step)
            break
        if skipped := checkpoints.count(folder) - (int(chosen) >= 0):
            say(f"{skipped} checkpoints are older or damaged, and passed over")
    dist.broadcast(chosen, src=0)
    if int(chosen) < 0:
        return None, Progress(), {}
    checkpoint, progress = checkpoints.at(folder, int(chosen))
    stored = checkpoints.read(checkpoint)
    found = {
        name.removeprefix("weight/"): tuple(one.shape)
        for name, one in stored.items()
        if name.startswith("weight/")
    }
    if found != shapes:
        say("the checkpoint is of another model, and passed over")
        return None, Progress(), {}
    best = spec.output_path / CANDIDATES / f"step-{progress.best_step or 0:07d}"
    if not (best / ADAPTER).exists():  # the one after it was better, but no checkpoint says so yet
        progress = progress.model_copy(update={"best_step": None, "best_loss": None, "worse": 0})
    say(f"going on from step {progress.step}")
    resumed_from = (*progress.resumed_from, progress.step)
    return checkpoint, progress.model_copy(update={"resumed_from": resumed_from}), stored


def train(job: Job, stop: threading.Event, *, validating: bool) -> None:
    """All steps that are left. The last adapter that was written is the best, or the last."""
    recipe, total = job.recipe, len(job.order)
    every = math.ceil(total / recipe.validations) if validating else total
    began = time.perf_counter() - job.progress.seconds
    first = job.progress.step
    for number in range(first, total):
        faulthandler.dump_traceback_later(recipe.hang_seconds, exit=True)
        rate = learning_rate(number, total, recipe)
        chosen = job.order[number]
        loss, stopping = one_step(job, number, rate, stopping=stop.is_set())
        before, seconds = job.progress.seconds, time.perf_counter() - began
        job.progress = job.progress.model_copy(
            update={
                "step": number + 1,
                "losses": (*job.progress.losses, loss),
                "tokens": job.progress.tokens + sum(job.lengths[index] for index in chosen),
                "supervised_tokens": job.progress.supervised_tokens
                + sum(job.examples[index].supervised for index in chosen),
                "seconds": seconds,
            }
        )
        if job.rank == 0:
            emit(
                StepMetrics(
                    step=number + 1,
                    steps=total,
                    loss=loss,
                    learning_rate=rate,
                    tokens_per_second=job.progress.tokens / seconds,
                    eta_seconds=seconds / (number + 1) * (total - number - 1),
                    memory_bytes=peak_memory(),
                )
            )
        last = number + 1 == total
        paused = time.perf_counter()  # what is written and validated is no time of training
        if (number + 1) % every == 0 or last:
            consider(job, validating=validating)
            if job.progress.worse >= recipe.patience:
                say(f"stopped at step {number + 1}: {recipe.patience} validations without a best")
                break
        if not last and (stopping or (number + 1) % recipe.checkpoint_steps == 0):
            keep(job, needed=stopping)
        if number + 1 == first + SEEN and agreed(
            pays(recipe, seconds - before, total - number - 1, liger=job.liger)
        ):
            say(f"compiling {compile_layers(job.objective.model)} layers")
        began += time.perf_counter() - paused
        if stopping and not last:
            raise Preempted
    faulthandler.cancel_dump_traceback_later()


def one_step(job: Job, number: int, rate: float, *, stopping: bool) -> tuple[float, bool]:
    """One optimizer step; its mean loss, and whether any rank is to stop.

    Raises:
        TrainingError: the loss is not finite, or far above that of guessing.
    """
    engine, examples, chosen = job.engine, job.examples, job.order[number]
    set_rate(job.optimizer, rate)
    if job.recipe.lora_dropout:
        torch.manual_seed(hash((job.recipe.seed, number, job.rank)))
    supervised = sum(examples[index].supervised for index in chosen)
    own = job.layout(number).ranks[job.rank]
    losses: list[torch.Tensor] = []  # not read before the end: each reading waits for the GPU
    for at, batch in enumerate(own):
        engine.set_gradient_accumulation_boundary(at == len(own) - 1)
        loss = engine(**job.objective.batch([examples[index] for index in batch], engine.device))
        # Every supervised token of the step weighs the same: DeepSpeed averages over ranks.
        engine.backward(loss * (job.world / supervised))
        losses.append(loss.detach())
    each = torch.stack(losses).double()
    told = torch.stack([each.sum(), torch.full_like(each[0], float(stopping))])
    dist.all_reduce(told)
    total, stops = told.tolist()
    mean = total / supervised
    if not math.isfinite(mean):
        broken = torch.zeros(len(examples), device=engine.device)
        for batch, finite in zip(own, each.isfinite().tolist(), strict=True):
            if not finite:
                broken[list(batch)] = 1
        dist.all_reduce(broken)
        where = ", ".join(sorted(examples[i].id for i in broken.nonzero())) or "none alone"
        raise TrainingError(
            f"the loss became {mean} at step {number + 1}, in conversations {where}",
            "lower train.learning_rate, or look at these conversations",
        )
    if mean > EXPLODED * math.log(job.vocabulary):
        where = ", ".join(examples[index].id for index in chosen)
        raise TrainingError(
            f"the loss rose to {mean:.1f} at step {number + 1} (guessing has"
            f" {math.log(job.vocabulary):.1f}), in conversations {where}",
            "lower train.learning_rate",
        )
    engine.step()
    return mean, stops > 0


def consider(job: Job, *, validating: bool) -> None:
    """Write the adapter of this step; where there is validation, keep the best one only."""
    step = job.progress.step
    folder = job.output / CANDIDATES / f"step-{step:07d}"
    say(f"saving the adapter of step {step}")
    job.engine.eval()
    # A forward pass is collective under ZeRO-3, so every rank makes the probe's logits.
    with torch.compiler.set_stance("force_eager"):  # as the adapter will be served
        probe = Probe.of(job.objective.model, job.examples[: job.spec.probe])
    with gathered(job.parameters, job.recipe):
        if job.rank == 0:
            save_candidate(job, folder, probe)
    job.engine.train()
    if not validating:
        return
    told = torch.zeros(1, dtype=torch.float64, device=job.engine.device)
    if job.validator is not None:
        release()
        told[0] = job.validator.loss(folder / ADAPTER)
    dist.broadcast(told, src=0)
    loss, before = float(told[0]), job.progress.best_loss
    best = before is None or loss < before
    update: dict[str, Any] = {"worse": job.progress.worse + 1}
    if best:
        update = {"best_step": step, "best_loss": loss, "worse": 0}
    job.progress = job.progress.model_copy(update=update)
    if job.rank == 0:
        emit(Validated(step=step, loss=loss, best=best))
        for other in (job.output / CANDIDATES).iterdir():
            if other.name != f"step-{job.progress.best_step:07d}":
                remove(other)


def save_candidate(job: Job, folder: Path, probe: Probe) -> None:
    """Write the adapter and its probe, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_folder(folder.parent)
    try:
        save_adapter(job.objective.model, partial / ADAPTER, job.spec.base)
        probe.save(partial / PROBE)
        remove(folder)
        publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def keep(job: Job, *, needed: bool) -> None:
    """Write a checkpoint. A disk that is full costs the checkpoint, not the training, unless it is
    `needed` because the training ends with it.

    Raises:
        OSError, SafetensorError: it was needed and cannot be written.
    """
    stored = state(job.parameters)
    if job.rank == 0:
        try:
            checkpoints.save(job.output / CHECKPOINTS, job.progress, stored)
        except (OSError, SafetensorError) as error:
            if needed:
                raise
            problem = disk_error(error, job.output) or error
            say(f"going on without a checkpoint of step {job.progress.step}: {problem}")
    dist.barrier()


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak (Loshchilov & Hutter, 2017)."""
    warmup = max(1, round(total * recipe.warmup_ratio))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def agreed(value: int) -> int:
    """The least that any rank says."""
    told = torch.tensor(value, device=own_device())
    dist.all_reduce(told, op=dist.ReduceOp.MIN)
    return int(told)


def own_device() -> torch.device:
    """Where this rank's collectives find their tensors."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def count(parameters: Named) -> int:
    return sum(getattr(one, "ds_numel", one.numel()) for one in parameters.values())


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, of the process elsewhere."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def has_room(spec: FinetuneSpec) -> bool:
    """Whether the GPU of this rank can hold the base once more, for validation between steps."""
    if not torch.cuda.is_available():
        return False
    free, _ = torch.cuda.mem_get_info()
    weights = sum(path.stat().st_size for path in Path(spec.base.path).glob("*.safetensors"))
    return free > 2 * weights


def end_with_parent() -> None:
    """A rank whose launcher was killed ends too: nobody would notice what becomes of it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)


def say(text: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        emit(Phase(text=text))


def main() -> int:
    spec_file, *store = map(Path, sys.argv[1:])
    try:
        finetune(spec_file, *store)
    except EvergreenError as error:
        emit(Failed(reason=error.problem, fix=error.fix))
        return error.exit_code
    except Preempted:
        say(STOPPED)
        return PREEMPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, the launcher is told
        traceback.print_exc()
        emit(describe_crash(error, spec_file.parent))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
