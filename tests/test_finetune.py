"""Training: what is learnt does not depend on ranks, stages, packing, or being killed."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from data_contracts.errors import TrainingError
from infra.local import free_port
from models import checkpoints
from models.adapters import WEIGHTS, Adapter
from models.encoding import write_encoding
from models.spec import CHECKPOINTS, LESS, METRICS, PREEMPTED, FinetuneSpec, Phase, StepMetrics
from tasks.train import Event, Trained, TrainSettings, collect, launch, run_elsewhere, train
from tests.jobs import job

# Sums are taken in another order by every layout, in float32; Adam's first steps, which divide by
# the root of tiny squares, spread that.
TOLERANCE = 2e-3
FEW = TrainSettings(
    max_steps=20, learning_rate=2e-3, lora_rank=4, validation_share=0, checkpoint_steps=5
)


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({**FEW.model_dump(), **changes})


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / WEIGHTS)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference of two adapters, in root mean squares of each tensor."""
    assert one.keys() == other.keys()
    return max(
        float((one[name] - other[name]).abs().max() / one[name].square().mean().sqrt())
        for name in one
    )


def losses_of(spec: FinetuneSpec, changed: TrainSettings) -> tuple[Trained, list[float]]:
    """A training, and the loss of each step that it took."""
    losses: list[float] = []

    def follow(event: Event) -> None:
        if isinstance(event, StepMetrics):
            losses.append(event.loss)

    return train(spec, changed, follow), losses


@pytest.fixture(scope="module")
def reference(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """One process, ZeRO-1: the adapter, and the loss of every step."""
    changed = settings(processes=1, zero_stage=1)
    spec = job(tmp_path_factory.mktemp("reference"), tiny_model, changed)
    _, losses = losses_of(spec, changed)
    return adapter_of(spec.output_path), losses


@pytest.mark.parametrize(
    "changes",
    [
        {"processes": 2, "zero_stage": 2},
        {"processes": 2, "zero_stage": 3},
        {"processes": 2, "zero_stage": 2, "offload": "cpu"},
        {"processes": 2, "zero_stage": 1, "packing": False, "micro_batch_tokens": 40},
        {"processes": 1, "zero_stage": 2, "gradient_checkpointing": True, "micro_batch_tokens": 50},
    ],
    ids=lambda changes: " ".join(f"{name} {value}" for name, value in changes.items()),
)
def test_every_layout_learns_the_same(
    reference: tuple[dict[str, torch.Tensor], list[float]],
    tiny_model: Path,
    tmp_path: Path,
    changes: dict[str, object],
) -> None:
    changed = settings(**changes)
    spec = job(tmp_path, tiny_model, changed)
    trained, losses = losses_of(spec, changed)
    assert trained.metrics.packed is (changes.get("packing") is not False)
    assert losses == pytest.approx(reference[1], rel=1e-4)
    assert distance(reference[0], adapter_of(spec.output_path)) < TOLERANCE


def test_compiled_layers_learn_the_same(
    reference: tuple[dict[str, torch.Tensor], list[float]],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    changed = settings(processes=1, compile=True)
    spec = job(tmp_path, tiny_model, changed)
    _, losses = losses_of(spec, changed)
    assert losses == pytest.approx(reference[1], rel=1e-4)
    assert distance(reference[0], adapter_of(spec.output_path)) < TOLERANCE
    assert list((tmp_path / "compiled").rglob("*.so")), "the layers went on as they were"


def test_ranks_that_have_less_to_do_still_take_part(tiny_model: Path, tmp_path: Path) -> None:
    """Of three conversations one rank has two, each a pass of its own, and the other one."""
    losses: list[list[float]] = []
    for changes in ({"processes": 1}, {"processes": 2, "zero_stage": 3}):
        changed = settings(batch_size=3, micro_batch_tokens=16, max_steps=8, **changes)
        spec = job(tmp_path / str(len(losses)), tiny_model, changed)
        losses.append(losses_of(spec, changed)[1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("changes", [{"dora": True}, {"rslora": True, "lora_dropout": 0.1}])
def test_variants_of_lora_train_and_load_back(
    tiny_model: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    changed = settings(**changes, processes=1)
    trained = train(job(tmp_path, tiny_model, changed), changed)
    assert trained.metrics.last_loss < trained.metrics.first_loss


def test_a_warm_start_goes_on_from_where_the_other_ended(
    reference: tuple[dict[str, torch.Tensor], list[float]], tiny_model: Path, tmp_path: Path
) -> None:
    changed = settings(processes=1, zero_stage=1)
    first = train(job(tmp_path, tiny_model, changed), changed)
    start = Adapter.at(Path(first.adapter.path))
    again = train(job(tmp_path / "again", tiny_model, changed, start=start), changed)
    assert again.metrics.first_loss < first.metrics.first_loss
    other = settings(processes=1, lora_rank=8)
    with pytest.raises(TrainingError, match="other tensors than this recipe makes"):
        train(job(tmp_path / "other", tiny_model, other, start=start), other)


def test_the_best_step_is_kept_and_training_stops_when_it_gets_worse(
    tiny_model: Path, tmp_path: Path
) -> None:
    changed = settings(
        validation_share=0.3, validations=20, patience=1, max_steps=120, epochs=60,
        learning_rate=0.05, processes=1,
    )  # fmt: skip
    validated: dict[int, float] = {}
    spec = job(tmp_path, tiny_model, changed, count=50)
    trained = train(
        spec,
        changed,
        lambda e: validated.update({e.step: e.loss}) if e.event == "validated" else None,
    )
    best = min(validated, key=lambda step: validated[step])
    assert trained.metrics.best_step == best
    assert trained.metrics.validation_loss == validated[best]
    assert trained.metrics.steps < 120, "it went on to the end"
    assert list(validated)[-2] == best


# -- stopped, killed, hung -----------------------------------------------------------

LONG = {
    "max_steps": 100, "epochs": 20.0, "processes": 2, "checkpoint_steps": 5, "batch_size": 32,
}  # fmt: skip


def killed_in(step: int, victim: str) -> Callable[[Event], None]:
    """Kill -9 a process of the job, once, when it has taken that step."""
    done = threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, StepMetrics) and event.step == step and not done.is_set():
            done.set()
            find(victim).kill()

    return watch


def living() -> Iterator[tuple[psutil.Process, list[str], dict[str, str]]]:
    """(process, command line, environment) of all that this process started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended just now
            yield process, process.cmdline(), process.environ()


def find(victim: str) -> psutil.Process:
    """The launcher or a rank of the job that this process runs."""
    for process, line, environment in living():
        launcher = line[1:3] == ["-m", "torch.distributed.run"]
        if launcher and victim == "launcher":
            return process
        if "models.finetune" in line and victim == f"rank {environment.get('RANK')}":
            return process
    raise AssertionError(f"there is no {victim}")


@pytest.fixture(scope="module")
def unbroken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, ...]:
    changed = settings(**LONG)
    spec = job(tmp_path_factory.mktemp("unbroken"), tiny_model, changed)
    return tuple(losses_of(spec, changed)[1])


@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "launcher"])
def test_a_killed_process_costs_at_most_one_interval(
    unbroken: tuple[float, ...], tiny_model: Path, tmp_path: Path, victim: str
) -> None:
    changed = settings(**LONG)
    spec = job(tmp_path, tiny_model, changed)
    step = random.randrange(12, 50)
    kill = killed_in(step, victim)
    losses: dict[int, float] = {}
    said: list[str] = []

    def follow(event: Event) -> None:
        if isinstance(event, StepMetrics):
            losses[event.step] = event.loss
        elif isinstance(event, Phase):
            said.append(event.text)
        kill(event)

    trained = train(spec, changed, follow)
    died = next(text for text in said if text.startswith("the job died"))
    if victim != "launcher":
        assert f"{victim} was killed by signal 9" in died
    (resumed,) = trained.metrics.resumed_from
    assert resumed >= step - changed.checkpoint_steps
    assert list(losses.values()) == pytest.approx(unbroken, rel=1e-4)


def test_the_other_ranks_end_soon_after_one_is_killed(tiny_model: Path, tmp_path: Path) -> None:
    changed = settings(**{**LONG, "max_restarts": 0})
    spec = job(tmp_path, tiny_model, changed)
    killed: list[float] = []

    def follow(event: Event) -> None:
        if isinstance(event, StepMetrics) and event.step == 20:
            find("rank 1").kill()
            killed.append(time.monotonic())

    with pytest.raises(TrainingError, match="rank 1 was killed by signal 9"):
        train(spec, changed, follow)
    assert time.monotonic() - killed[0] < 15
    assert not any("models.finetune" in line for _, line, _ in living())


def test_sigterm_writes_a_checkpoint_and_has_a_code_of_its_own(
    unbroken: tuple[float, ...], tiny_model: Path, tmp_path: Path
) -> None:
    changed = settings(**{**LONG, "processes": 1, "checkpoint_steps": 1000})
    spec = job(tmp_path, tiny_model, changed)
    spec.output_path.mkdir(parents=True)
    write_encoding(spec)
    file = spec.output_path / "spec.json"
    file.write_text(spec.model_dump_json(), encoding="utf-8")
    alone = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "models.finetune", str(file)],
        env={**os.environ, **alone, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('{"event":"step"') and '"step":17,' in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait() == PREEMPTED
    (kept,) = checkpoints.whole(spec.output_path / CHECKPOINTS)
    assert kept[1].step >= 17
    losses = [*kept[1].losses, *losses_of(spec, changed)[1]]
    assert losses == pytest.approx(unbroken, rel=1e-4)


def test_a_damaged_checkpoint_is_passed_over(tiny_model: Path, tmp_path: Path) -> None:
    changed = settings(**{**LONG, "processes": 1, "max_restarts": 0})
    spec = job(tmp_path, tiny_model, changed)
    with pytest.raises(TrainingError, match="killed by signal 9"):
        train(spec, changed, killed_in(23, "rank 0"))
    folder = spec.output_path / CHECKPOINTS
    newest, older = [path for path, _ in checkpoints.whole(folder)]
    state = newest / checkpoints.STATE
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    assert [path for path, _ in checkpoints.whole(folder)] == [older]
    trained = train(spec, changed)
    assert trained.metrics.resumed_from == (int(older.name.removeprefix("step-")),)


# What Python runs at its start: memory that ends at 150 tokens, or at none.
ENDS = """
import torch
from models.objective import Objective

plain = Objective.forward

def forward(self, keep, targets, inputs):
    if {where}:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return plain(self, keep, targets, inputs)

Objective.forward = forward
"""


def memory_ends(folder: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (folder / "sitecustomize.py").write_text(ENDS.format(where=where), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path.cwd())]))


def test_memory_that_runs_out_halves_what_is_taken_at_once(
    reference: tuple[dict[str, torch.Tensor], list[float]],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory_ends(tmp_path, monkeypatch, "self.training and inputs['input_ids'].numel() > 150")
    changed, said = settings(processes=1, zero_stage=1), []
    spec = job(tmp_path, tiny_model, changed)
    train(spec, changed, lambda event: said.append(getattr(event, "text", "")))
    assert any("the job died (torch.OutOfMemoryError" in text for text in said)
    assert any("tokens at once, as memory ran out with more" in text for text in said)
    assert distance(adapter_of(spec.output_path), reference[0]) < TOLERANCE
    assert not (spec.output_path / LESS).exists()


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("self.training", "does not hold the [0-9]+ tokens of one conversation"),
        ("True", "the base model does not fit"),
    ],
)
def test_memory_that_never_suffices_ends_the_job(
    where: str, reason: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_ends(tmp_path, monkeypatch, where)
    changed = settings(processes=1, batch_size=1)
    with pytest.raises(TrainingError, match=reason):
        train(job(tmp_path, tiny_model, changed), changed)


def test_a_loss_that_explodes_stops_the_job_with_the_step_and_the_conversations(
    tiny_model: Path, tmp_path: Path
) -> None:
    changed = settings(learning_rate=1e30, max_grad_norm=1e9, processes=1, warmup_ratio=0)
    with pytest.raises(TrainingError, match=r"at step \d+.*in conversations .*chat-0-\d+"):
        train(job(tmp_path, tiny_model, changed), changed)


def test_a_step_that_hangs_ends_the_job(tiny_model: Path, tmp_path: Path) -> None:
    # Steps alone: no checkpoints between them, and past those that decide on compiling.
    few = {"max_restarts": 0, "max_steps": 30, "epochs": 9, "checkpoint_steps": 1000}
    changed = settings(processes=2, hang_seconds=8, **few)
    spec = job(tmp_path, tiny_model, changed)
    timers: list[threading.Timer] = []

    def follow(event: Event) -> None:
        if isinstance(event, StepMetrics) and event.step == 5:
            rank = find("rank 1")
            rank.suspend()
            # What is stopped does not hear that it is to end.
            timers.append(threading.Timer(16, lambda: rank.is_running() and rank.resume()))
            timers[0].start()

    with pytest.raises(TrainingError):
        train(spec, changed, follow)
    timers[0].join()
    log = (spec.output_path / "train.log").read_text("utf-8")
    assert "Timeout (0:00:08)!" in log
    assert "one_step" in log, "it does not say where it hung"


# -- two machines --------------------------------------------------------------------


def test_two_launchers_train_one_adapter(
    reference: tuple[dict[str, torch.Tensor], list[float]], tiny_model: Path, tmp_path: Path
) -> None:
    changed = settings(processes=1, nodes=2, rendezvous=f"127.0.0.1:{free_port()}", zero_stage=2)
    spec: FinetuneSpec = job(tmp_path, tiny_model, changed)
    spec.output_path.mkdir(parents=True)
    write_encoding(spec)
    file = spec.output_path / "spec.json"
    file.write_text(spec.model_dump_json(), encoding="utf-8")
    other = threading.Thread(target=lambda: launch(file, changed, lambda _: None))
    other.start()
    launch(file, changed, lambda _: None)
    other.join()
    assert re.search('"processes": 2', (spec.output_path / METRICS).read_text("utf-8"))
    assert distance(reference[0], adapter_of(spec.output_path)) < TOLERANCE


# -- elsewhere -----------------------------------------------------------------------


def test_another_deployment_trains_what_a_retrain_asks_for(
    prefect_api: str, tiny_model: Path, tmp_path: Path
) -> None:
    changed = settings(processes=1)
    spec = job(tmp_path, tiny_model, changed)
    with pytest.raises(TrainingError, match="there is no deployment train/elsewhere"):
        run_elsewhere(spec, changed, "train/elsewhere")
    serving = subprocess.Popen(
        [sys.executable, "-c", "from flows.train import train; train.serve('here')"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                run_elsewhere(spec, changed, "train/here")
                break
            except TrainingError as error:
                assert "there is no deployment" in str(error), error
                assert time.monotonic() < until
                time.sleep(1)
    finally:
        serving.terminate()
        serving.wait()
    trained = collect(spec)
    assert trained.metrics.steps == changed.max_steps
