"""Training killed with -9 at random moments: does it go on, and end where it would have ended?

    python -m bench.kills [--runs 10] [--steps 40]

The bundled model on short human conversations, two ranks, a checkpoint every five steps. In turn
rank 0, rank 1, the launcher and the process that asked for the training are killed, at a random
moment from the job's start to its end. The first three go on by themselves; the last is started
again, as a flow run is. The last line is one JSON object.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.train import conversations, prepared, snapshot
from data_contracts.workspace import Workspace
from models.spec import FinetuneSpec, StepMetrics
from tasks.train import TrainSettings, spec_of, train

VICTIMS = ("rank 0", "rank 1", "launcher", "parent")
EVERY = 5


def ask(spec_file: str, settings: str) -> None:
    """The process that asks for a training: writes each step's loss as it comes."""
    spec = FinetuneSpec.model_validate_json(Path(spec_file).read_text("utf-8"))

    def follow(event: Any) -> None:
        if isinstance(event, StepMetrics):
            print(json.dumps([event.step, event.loss]), flush=True)

    made = train(spec, TrainSettings.model_validate_json(settings), follow)
    print(json.dumps({"resumed": made.metrics.resumed_from}), flush=True)


def start(spec: Path, settings: TrainSettings, log: Path) -> subprocess.Popen[str]:
    with log.open("a", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.kills", "--ask", str(spec), settings.model_dump_json()],
            stdout=file,
            text=True,
        )


def kill(asker: subprocess.Popen[str], victim: str) -> bool:
    """Whether there was one to kill."""
    if victim == "parent":
        children = psutil.Process(asker.pid).children(recursive=True)
        asker.kill()
        asker.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, "what it had started goes on without it"
        return True
    for process in psutil.Process(asker.pid).children(recursive=True):
        try:
            line, environment = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        is_launcher = line[1:3] == ["-m", "torch.distributed.run"]
        is_rank = "models.finetune" in line and f"rank {environment.get('RANK')}" == victim
        if (victim == "launcher" and is_launcher) or is_rank:
            process.kill()
            return True
    return False


def told(log: Path) -> tuple[list[tuple[int, float]], list[int]]:
    """((step, loss) as they came, the steps it went on from)."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    came = [(line[0], line[1]) for line in lines if isinstance(line, list)]
    return came, [step for line in lines if isinstance(line, dict) for step in line["resumed"]]


def main() -> None:
    if sys.argv[1:2] == ["--ask"]:
        ask(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    _, base = prepared()
    settings = TrainSettings(
        max_steps=options.steps,
        max_length=96,
        batch_size=4,
        processes=2,
        validation_share=0,
        checkpoint_steps=EVERY,
        epochs=3,
    )
    draw = random.Random(options.seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        here = Workspace(home=Path(name))
        data = snapshot(conversations(100), here.snapshots)

        def spec_file(number: int) -> Path:
            spec = spec_of(data, base, settings, None, here)
            spec = spec.model_copy(update={"output": str(here.home / f"job-{number}")})
            file = here.home / f"spec-{number}.json"
            file.write_text(spec.model_dump_json(), encoding="utf-8")
            return file

        began = time.perf_counter()
        unbroken_log = here.home / "unbroken.log"
        assert start(spec_file(0), settings, unbroken_log).wait() == 0
        took = time.perf_counter() - began
        unbroken = dict(told(unbroken_log)[0])
        print(f"unbroken: {took:.0f} s", flush=True)
        for number in range(1, options.runs + 1):
            victim = VICTIMS[(number - 1) % len(VICTIMS)]
            file = spec_file(number)
            log = here.home / f"{number}.log"
            asker = start(file, settings, log)
            moment = draw.uniform(0.05, 0.95) * took
            time.sleep(moment)
            found = kill(asker, victim)
            code = start(file, settings, log).wait() if victim == "parent" else asker.wait()
            came, resumed = told(log)
            losses = dict(came)
            rows.append(
                {
                    "victim": victim,
                    "second": round(moment, 1),
                    "killed": found,
                    "ended": code == 0 and sorted(losses) == list(range(1, options.steps + 1)),
                    "resumed_from": resumed,
                    "steps_done_again": len(came) - len(losses),
                    "largest_difference": max(
                        abs(losses.get(step, 0) - loss) / loss for step, loss in unbroken.items()
                    ),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    print(
        json.dumps(
            {
                "ratios": {
                    "ended": sum(row["ended"] for row in rows) / len(rows),
                    "most_steps_done_again": max(row["steps_done_again"] for row in rows) / EVERY,
                    "largest_difference": max(row["largest_difference"] for row in rows),
                },
                "runs": rows,
                "sizes": {"runs": options.runs, "steps": options.steps, "checkpoint_steps": EVERY},
                "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
            }
        )
    )


if __name__ == "__main__":
    main()
