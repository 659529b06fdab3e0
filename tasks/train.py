"""Train: run `models.finetune` under torchrun as a child process and follow it."""

import os
import shutil
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data_contracts.digests import digest_model
from data_contracts.errors import TrainingError
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from models.adapters import Adapter, load_model
from models.base import Base, load_tokenizer
from models.chat import encode_all
from models.score import mean_loss, score
from models.spec import ADAPTER, METRICS, FinetuneMetrics, FinetuneSpec, Phase, Recipe, StepMetrics
from tasks import processes, tracking
from tasks.progress import StageProgress
from tasks.split import Split
from tasks.stage import stage_task

Event: TypeAlias = StepMetrics | Phase

# bfloat16 keeps 8 bits of mantissa and kernels differ between batch shapes: what a
# loss may differ by when the same adapter is scored in another process.
RELOAD_TOLERANCE = 0.02


class TrainSettings(Recipe):
    """The recipe, and how many processes share the work."""

    processes: int | None = Field(
        default=None,
        gt=0,
        description="Data-parallel ranks; default one a GPU, or two on a CPU with two cores.",
    )


class Trained(BaseModel):
    model_config = ConfigDict(frozen=True)

    adapter: Adapter
    metrics: FinetuneMetrics

    def verify(self) -> None:
        self.adapter.verify()


def job_folder(data: Snapshot, base: Base, settings: TrainSettings, workspace: Workspace) -> Path:
    """Where this training's files are: named by what it is made of."""
    spec = FinetuneSpec(base=base, data=data, recipe=recipe(settings), output="")
    return workspace.runs / f"train-{digest_model(spec)[:16]}"


def recipe(settings: TrainSettings) -> Recipe:
    return Recipe.model_validate(settings.model_dump(exclude={"processes"}))


def train(
    data: Snapshot,
    base: Base,
    settings: TrainSettings,
    workspace: Workspace,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Trained:
    """Fine-tune an adapter on `data` and check that it loads back as it was.

    Raises:
        TrainingError: the job failed, with its own reason where it gave one, or the
            adapter read back from disk scores differently from the one trained.
    """
    folder = job_folder(data, base, settings, workspace)
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
    folder.mkdir(parents=True)
    spec = FinetuneSpec(base=base, data=data, recipe=recipe(settings), output=str(folder))
    spec_file = folder / "spec.json"
    spec_file.write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    launch(spec_file, settings.processes or default_processes(), on_event)
    metrics = FinetuneMetrics.model_validate_json((folder / METRICS).read_text(encoding="utf-8"))
    trained = Trained(adapter=Adapter.at(folder / ADAPTER), metrics=metrics)
    check_reload(trained, base, data, settings.max_length)
    return trained


def default_processes() -> int:
    """One a GPU; on a CPU two if there are two cores, which hides the memory stalls of one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return min(2, os.cpu_count() or 1)


def launch(spec_file: Path, count: int, on_event: Callable[[Event], None]) -> None:
    """Run the training job and pass its events on; everything else it prints goes to train.log.

    Raises:
        TrainingError: it ended with another code than 0, or said something unreadable.
    """
    folder = spec_file.parent
    job = processes.start(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--standalone", "--nproc_per_node", str(count)),
            *("--log-dir", str(folder / "torchrun")),
            *("-m", "models.finetune", str(spec_file)),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
            "PYTHONUNBUFFERED": "1",
            # DeepSpeed compiles a kernel with the ninja that is installed beside Python,
            # also where the environment is not activated.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
    )
    events: TypeAdapter[Event] = TypeAdapter(Event)
    last_lines: deque[str] = deque(maxlen=200)
    log = folder / "train.log"
    try:
        with log.open("w", encoding="utf-8") as file:
            for line in job.stdout or ():
                if line.startswith('{"event":'):
                    on_event(events.validate_json(line))
                else:
                    file.write(line)
                    last_lines.append(line.strip())
        code = job.wait()
    except ValidationError as error:
        raise TrainingError("the training job printed a broken event", f"see {log}") from error
    finally:
        processes.stop(job)
    if code != 0:
        raise TrainingError(
            f"the training job failed (exit code {code}): {_cause(last_lines)}", f"see {log}"
        )


def _cause(lines: deque[str]) -> str:
    """The line that says why: our own one-line error, else the first Python exception."""
    for line in lines:
        if "error: " in line and line.startswith(("error: ", "[rank")):
            return line.split("error: ", 1)[1]
    for line in lines:
        text = line.split("]: ", 1)[-1] if line.startswith("[rank") else line
        if text.partition(":")[0].endswith(("Error", "Exception", "Interrupt")):
            return text[:300]
    return lines[-1][:300] if lines else "it printed nothing"


def check_reload(trained: Trained, base: Base, data: Snapshot, max_length: int) -> None:
    """Score the probe items with the adapter as read from disk, in this process.

    Raises:
        TrainingError: the loss is not the one the training job measured before saving.
    """
    wanted = set(trained.metrics.probe_ids)
    tokenizer = load_tokenizer(base)
    examples, _ = encode_all(
        tokenizer,
        ((record.id, record.messages) for record in data.records() if record.id in wanted),
        max_length,
    )
    model = load_model(base, trained.adapter)
    loss = mean_loss(score(model, examples, tokenizer.pad_token_id))
    if abs(loss - trained.metrics.probe_loss) > RELOAD_TOLERANCE * max(1.0, loss):
        raise TrainingError(
            f"the saved adapter scores {loss:.4f} where the trained one"
            f" scored {trained.metrics.probe_loss:.4f} on the same conversations",
            "the adapter was not saved as trained; run again and report this",
        )


class TrainedRun(Trained):
    """A training and the MLflow run that recorded it."""

    run_id: str


@stage_task(
    "train",
    produces="models/adapter",
    description="LoRA adapter fine-tuned on the training conversations.",
    code=("data_contracts", "models", "tasks.train"),
)
def train_task(
    parts: Split,
    base: Base,
    settings: TrainSettings,
    connection: tracking.TrackingSettings,
    workspace: Workspace,
) -> TrainedRun:
    client = tracking.connect(connection, workspace)
    progress = StageProgress("train", "steps")
    curve: list[StepMetrics] = []

    def follow(event: Event) -> None:
        if isinstance(event, Phase):
            progress.say(event.text)
            return
        curve.append(event)
        tracking.log_step(
            event.step,
            train_loss=event.loss,
            learning_rate=event.learning_rate,
            tokens_per_second=event.tokens_per_second,
        )
        progress(
            event.step,
            event.steps,
            f"loss {event.loss:.3f}, {event.tokens_per_second:.0f} tokens/s",
            event.eta_seconds,
        )

    with tracking.training_run(
        client,
        job_folder(parts.train, base, settings, workspace).name,
        tags=prefect_tags(),
        params={
            **settings.model_dump(),
            "base": base.id,
            "base_digest": base.digest,
            "tokenizer_digest": base.tokenizer_digest,
        },
    ) as run_id:
        tracking.log_snapshot("train", parts.train)
        tracking.log_snapshot("holdout", parts.holdout)
        trained = train(parts.train, base, settings, workspace, follow)
        tracking.log_loss_curve([e.step for e in curve], [e.loss for e in curve])
        tracking.log_step(trained.metrics.steps, probe_loss=trained.metrics.probe_loss)
    return TrainedRun(**dict(trained), run_id=run_id)


def prefect_tags() -> dict[str, str]:
    """Tags that lead from an MLflow run to the Prefect flow run that made it."""
    from prefect.runtime import flow_run

    return {
        "prefect.flow_run_id": str(flow_run.get_id() or ""),
        "prefect.flow_run_name": str(flow_run.get_name() or ""),
        "prefect.flow_run_url": str(flow_run.get_flow_run_ui_url() or ""),
    }
