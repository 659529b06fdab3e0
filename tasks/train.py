"""Train: run `models.finetune` under torchrun as a child process and follow it."""

import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from data_contracts.digests import digest_model
from data_contracts.disk import disk_errors, unwritable
from data_contracts.errors import TrainingError
from data_contracts.partial import write_whole
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from models.adapters import Adapter, load_model
from models.base import Base
from models.encoding import (
    read_encoding,
    require_held_out,
    validation_split,
    write_encoding,
)
from models.memory import release
from models.preflight import check_device, check_model
from models.probe import Probe
from models.spec import (
    ADAPTER,
    LOG,
    METRICS,
    PROBE,
    STOPPED,
    Crashed,
    Failed,
    FinetuneMetrics,
    FinetuneSpec,
    Phase,
    Recipe,
    StepMetrics,
    Validated,
)
from tasks import processes, tracking
from tasks.progress import StageProgress
from tasks.rendezvous import Rendezvous, of_machines, on_this_machine, require_private
from tasks.split import Split
from tasks.stage import stage_task

if TYPE_CHECKING:
    import subprocess

Event: TypeAlias = Annotated[
    StepMetrics | Phase | Validated | Failed | Crashed, Field(discriminator="event")
]

# What logits may differ by, in their standard deviations, when the same adapter is read back: in
# bfloat16 kernels round differently between shapes of a batch. A tensor that is missing or of
# another training differs by more than ten times that.
RELOAD_TOLERANCE = 0.05
DIED = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.DOTALL)


class TrainSettings(Recipe):
    """The recipe, and what it runs on."""

    processes: int | None = Field(
        default=None,
        gt=0,
        description="Data-parallel ranks on this machine; default one a GPU, or two on a CPU with"
        " two cores.",
    )
    nodes: int = Field(default=1, gt=0, description="Machines that train one adapter together.")
    rendezvous: str | None = Field(
        default=None,
        pattern=r"^\S+:\d+$",
        description="`host:port` at which the machines meet: a free port of one of them, on a"
        " network that nobody else reaches.",
    )
    allow_public_rendezvous: bool = Field(
        default=False,
        description="Accept a rendezvous that the internet may reach. Whoever reaches it runs code"
        " as you; only for a network that a firewall closes.",
    )
    max_restarts: int = Field(
        default=2,
        ge=0,
        description="Times that a job that died goes on from its last checkpoint by itself.",
    )
    deployment: str | None = Field(
        default=None,
        pattern="^[^/]+/[^/]+$",
        description="`train/train` to train where that deployment's work pool is, on the same"
        " EVERGREEN_HOME; default here.",
    )
    warm_start: bool = Field(
        default=False, description="Go on from the champion's adapter, not from a new one."
    )

    @model_validator(mode="after")
    def _meet(self) -> "TrainSettings":
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError("more than one node needs train.rendezvous")
        return self


class Trained(BaseModel):
    model_config = ConfigDict(frozen=True)

    adapter: Adapter
    metrics: FinetuneMetrics

    def verify(self) -> None:
        self.adapter.verify()


def spec_of(
    data: Snapshot,
    base: Base,
    settings: TrainSettings,
    start: Adapter | None,
    workspace: Workspace,
) -> FinetuneSpec:
    """The job; its folder is named by what it is made of, so that the same job goes on there."""
    around = set(TrainSettings.model_fields) - set(Recipe.model_fields)
    recipe = Recipe.model_validate(settings.model_dump(exclude=around))
    spec = FinetuneSpec(base=base, data=data, recipe=recipe, start=start, output="")
    folder = workspace.runs / f"train-{digest_model(spec)[:16]}"
    return spec.model_copy(update={"output": str(folder)})


def train(
    spec: FinetuneSpec,
    settings: TrainSettings,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Trained:
    """Fine-tune an adapter and check that it loads back as it was.

    An attempt that was killed is gone on with, from its last checkpoint.

    Raises:
        TrainingError: the job failed, with its own reason where it gave one, or the
            adapter read back from disk answers differently from the one trained.
    """
    run_job(spec, settings, on_event)
    return collect(spec)


def run_job(spec: FinetuneSpec, settings: TrainSettings, on_event: Callable[[Event], None]) -> None:
    """Write the job into its folder, the encoded conversations first, and run it there.

    Raises:
        ConfigError, ModelError: no attempt could succeed; nothing was started.
        TrainingError: it failed, or what it would learn is not what the assistant says.
    """
    check_job(spec, settings)
    folder = spec.output_path
    if (folder / METRICS).exists():  # an attempt that ended, but was not recorded or passed
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    on_event(Phase(text="encoding the conversations and proving what is learnt of them"))
    encoding = write_encoding(spec)
    for line in encoding.remarks():
        on_event(Phase(text=line))
    spec_file = folder / "spec.json"
    write_whole(spec_file, spec.model_dump_json(indent=2))
    launch(spec_file, settings, on_event)


def collect(spec: FinetuneSpec) -> Trained:
    """What the job made, checked. Raises as `train` does."""
    folder = spec.output_path
    metrics = FinetuneMetrics.model_validate_json((folder / METRICS).read_text(encoding="utf-8"))
    trained = Trained(adapter=Adapter.at(folder / ADAPTER), metrics=metrics)
    check_reload(trained, spec)
    return trained


def default_processes() -> int:
    """One a GPU; on a CPU two if there are two cores, which hides the memory stalls of one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return min(2, os.cpu_count() or 1)


def check_job(spec: FinetuneSpec, settings: TrainSettings) -> None:
    """Refuse what no attempt could do on this machine, before anything starts.

    Raises:
        ConfigError, ModelError: naming what to change.
    """
    check_device(spec.recipe, settings.processes or default_processes())
    check_model(spec.base, spec.recipe)


def launch(spec_file: Path, settings: TrainSettings, on_event: Callable[[Event], None]) -> None:
    """Run the training job, again if it dies, and pass its events on.

    Everything else that it prints goes to train.log beside the spec.

    Raises:
        TrainingError: it cannot succeed, died too often or twice of the same, or was told to stop
            (`transient`).
        DiskError: what it writes finds no room.
    """
    folder = spec_file.parent
    log = folder / LOG
    log.unlink(missing_ok=True)
    deaths: list[Death] = []
    for restart in range(settings.max_restarts + 1):
        with disk_errors(folder):
            attempt = run_once(spec_file, settings, log, on_event)
        if attempt.failed is not None:
            raise TrainingError(attempt.failed.reason, attempt.failed.fix)
        if attempt.code == 0 or (folder / METRICS).exists():
            return  # it may have ended although its launcher was killed
        if attempt.stopped:
            raise TrainingError(
                "the training job was told to stop", "run it again: it goes on", transient=True
            )
        if (problem := unwritable(folder)) is not None:
            raise problem
        death = attempt.death
        if death.lasting and death in deaths:
            raise TrainingError(
                f"the training job fails at step {attempt.step + 1} each time: {death.cause}",
                f"another attempt would end the same; {log} has the whole story",
            )
        deaths.append(death)
        if restart < settings.max_restarts:
            left = settings.max_restarts - restart
            text = f"the job died ({death.cause}); it goes on, {left} restarts are left"
            on_event(Phase(text=text))
    raise TrainingError(
        f"the training job failed (exit code {attempt.code}): {death.cause}",
        f"see {log}; run it again to go on from the last checkpoint",
    )


@dataclass(frozen=True)
class Death:
    """Why an attempt ended before its time.

    Attributes:
        cause: in words, which may name other numbers each time.
        step: the last one that it had taken.
        place: where an error was raised, or how the launcher put it.
        lasting: whether the same death once more means that there will be no other.
    """

    cause: str = field(compare=False)
    step: int
    place: str = ""
    lasting: bool = False


@dataclass
class Attempt:
    """How one run of the job ended."""

    code: int = 0
    step: int = 0
    failed: Failed | None = None
    stopped: bool = False
    crashes: list[Crashed] = field(default_factory=list)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def death(self) -> Death:
        """A rank that was killed or hung, what a rank reported, or what the launcher printed."""
        if (death := DIED.search("\n".join(self.last_lines))) and int(death[2]) < 0:
            return Death(f"rank {death[1]} was killed by signal {-int(death[2])}", self.step)
        if any(line.startswith("Timeout (") for line in self.last_lines):
            return Death("a step took longer than train.hang_seconds", self.step)
        if self.crashes:  # that a rank went away is what its going away caused in the others
            first = min(self.crashes, key=lambda crash: crash.incidental)
            return Death(first.error, self.step, first.place, lasting=not first.incidental)
        for line in self.last_lines:
            text = line.split("]: ", 1)[-1] if line.startswith("[rank") else line
            if text.partition(":")[0].endswith(("Error", "Exception", "Interrupt")):
                return Death(text[:300], self.step, text, lasting=True)
        last = self.last_lines[-1][:300] if self.last_lines else "it printed nothing"
        return Death(last, self.step)


def run_once(
    spec_file: Path, settings: TrainSettings, log: Path, on_event: Callable[[Event], None]
) -> Attempt:
    """One torchrun on this machine, until it ends or says that it cannot succeed."""
    attempt = Attempt()
    try:
        with rendezvous(settings, spec_file) as meeting:
            job = start_ranks(spec_file, settings, meeting)
            try:
                follow(job, attempt, log, on_event)
            finally:
                processes.stop(job)
    except ValidationError as error:
        raise TrainingError("the training job printed a broken event", f"see {log}") from error
    return attempt


def check_rendezvous(settings: TrainSettings) -> None:
    """Raises ConfigError: strangers could join the machines that train together."""
    if settings.deployment is None and settings.nodes > 1 and settings.rendezvous is not None:
        require_private(settings.rendezvous, public=settings.allow_public_rendezvous)


def rendezvous(settings: TrainSettings, spec_file: Path) -> AbstractContextManager[Rendezvous]:
    """Where the ranks of an attempt meet. Raises ConfigError: where others could join them."""
    if settings.nodes == 1 or settings.rendezvous is None:
        return on_this_machine()
    return of_machines(
        settings.nodes,
        settings.rendezvous,
        spec_file.parent.name,
        public=settings.allow_public_rendezvous,
    )


def start_ranks(
    spec_file: Path, settings: TrainSettings, meeting: Rendezvous
) -> "subprocess.Popen[str]":
    """One torchrun with the ranks of this machine."""
    count = settings.processes or default_processes()
    return processes.start(
        [
            *(sys.executable, "-m", "torch.distributed.run", *meeting.arguments),
            *("--nproc-per-node", str(count), "-m", "models.finetune", str(spec_file)),
            *([str(meeting.store)] if meeting.store else []),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
            "PYTHONUNBUFFERED": "1",
            # DeepSpeed compiles a kernel with the ninja that is installed beside Python,
            # also where the environment is not activated.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            **meeting.environment,
        },
    )


def follow(
    job: "subprocess.Popen[str]", attempt: Attempt, log: Path, on_event: Callable[[Event], None]
) -> None:
    """Pass on what the job says until it ends, or says that it cannot succeed.

    Raises:
        pydantic.ValidationError: it printed an event that is none.
    """
    events: TypeAdapter[Event] = TypeAdapter(Event)
    with log.open("a", encoding="utf-8") as file:
        for line in job.stdout or ():
            if not line.startswith('{"event":'):
                file.write(line)
                attempt.last_lines.append(line.strip())
                continue
            event = events.validate_json(line)
            if isinstance(event, Failed):
                attempt.failed = event
                return  # the other ranks may wait for one that has gone
            if isinstance(event, Crashed):
                attempt.crashes.append(event)
                continue
            if isinstance(event, StepMetrics):
                attempt.step = event.step
            attempt.stopped = isinstance(event, Phase) and event.text == STOPPED
            on_event(event)
    attempt.code = job.wait()


def check_reload(trained: Trained, spec: FinetuneSpec) -> None:
    """Compute the probe's logits with the adapter as read from disk, in this process.

    Raises:
        TrainingError: they are not those of the model that was trained.
        ModelError: the adapter is not whole, or does not fit the base tensor by tensor.
    """
    before = Probe.read(spec.output_path / PROBE)
    encoded, _ = read_encoding(spec)
    examples, _ = validation_split(encoded, spec.recipe.validation_share)
    probed = examples[: len(trained.metrics.probe_ids)]
    after = Probe.of(load_model(spec.base, trained.adapter, spec.recipe.quantize), probed)
    release()
    if (distance := before.distance(after)) > RELOAD_TOLERANCE:
        raise TrainingError(
            f"the saved adapter's logits are {distance:.2f} standard deviations from those of the"
            " trained one on the same conversations",
            "the adapter was not saved as trained; run again and report this",
        )


def run_elsewhere(spec: FinetuneSpec, settings: TrainSettings, deployment: str) -> None:
    """Have a deployment run the job, and wait until it has.

    Raises:
        TrainingError: there is no such deployment, or its run failed.
    """
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    there = settings.model_copy(update={"deployment": None})
    try:
        run: Any = run_deployment(
            deployment,
            parameters={
                "spec": spec.model_dump(mode="json"),
                "settings": there.model_dump(mode="json"),
            },
        )
    except ObjectNotFound as error:
        raise TrainingError(
            f"there is no deployment {deployment}", "deploy it, or unset train.deployment"
        ) from error
    if not run.state.is_completed():
        raise TrainingError(
            f"the training at {deployment} ended as {run.state.name}: {run.state.message}",
            f"see its flow run {run.name}",
        )


def following(
    progress: StageProgress, curve: dict[int, StepMetrics], validated: dict[int, float]
) -> Callable[[Event], None]:
    """Show a job's events and keep its losses."""

    def follow(event: Event) -> None:
        if isinstance(event, Validated):
            validated[event.step] = event.loss
            best = ", the best so far" if event.best else ""
            progress.say(f"validation loss {event.loss:.3f} at step {event.step}{best}")
        elif isinstance(event, StepMetrics):
            curve[event.step] = event
            detail = f"loss {event.loss:.3f}, {event.tokens_per_second:.0f} tokens/s"
            memory = f"{event.memory_bytes / 2**30:.1f} GB"
            progress(event.step, event.steps, f"{detail}, {memory}", event.eta_seconds)
        elif isinstance(event, Phase):
            progress.say(event.text)

    return follow


class TrainedRun(Trained):
    """A training and the MLflow run that recorded it."""

    run_id: str


@stage_task(
    "train",
    produces="models/adapter",
    description="LoRA adapter fine-tuned on the training conversations.",
)
def train_task(
    parts: Split,
    base: Base,
    start: Adapter | None,
    settings: TrainSettings,
    connection: tracking.TrackingSettings,
    workspace: Workspace,
) -> TrainedRun:
    client = tracking.connect(connection, workspace)
    progress = StageProgress("train", "steps")
    curve: dict[int, StepMetrics] = {}
    validated: dict[int, float] = {}
    require_held_out(parts.holdout, base, settings.max_length)
    spec = spec_of(parts.train, base, settings, start, workspace)

    show = following(progress, curve, validated)

    def follow(event: Event) -> None:
        show(event)
        if isinstance(event, Validated):
            tracking.log_step(event.step, validation_loss=event.loss)
        elif isinstance(event, StepMetrics):
            tracking.log_step(
                event.step,
                train_loss=event.loss,
                learning_rate=event.learning_rate,
                tokens_per_second=event.tokens_per_second,
                memory_gb=event.memory_bytes / 2**30,
            )

    with tracking.training_run(
        client,
        spec.output_path.name,
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
        if settings.deployment is not None:
            run_elsewhere(spec, settings, settings.deployment)
            trained = collect(spec)
        else:
            trained = train(spec, settings, follow)
        tracking.log_loss_curve({step: one.loss for step, one in curve.items()}, validated)
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
