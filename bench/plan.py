"""`evergreen plan` against what a training takes: peak memory of a rank, and tokens a second.

    python -m bench.plan [--steps 4]

Human conversations, the bundled model in bfloat16 and two models of other sizes with random
weights. Then predictions, not measurements: Llama-3-8B and 70B on eight GPUs of 80 GB. The last
line is one JSON object.
"""

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import psutil

from bench.shapes import llama, random_base
from bench.train import conversations, predict, prepared, snapshot
from data_contracts.workspace import Workspace
from models.chat import encode_all
from models.plan import Machine, Plan, Work, plan, shape_of
from models.spec import Recipe
from models.template import load_template
from tasks.plan import STATED_SHARE
from tasks.train import TrainSettings, spec_of, train

CASES: list[dict[str, Any]] = [
    {"processes": 2, "max_length": 512},
    {"processes": 1, "max_length": 512},
    {"processes": 2, "max_length": 256},
    {"processes": 2, "max_length": 512, "micro_batch_tokens": 1024},
    {"processes": 2, "max_length": 512, "gradient_checkpointing": True},
]
OTHER_SIZES = ("40M", "360M")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    _, bundled = prepared()
    records = conversations(120)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        here = Workspace(home=Path(name))
        here.create()
        data = snapshot(records, here.snapshots)
        bases = {
            "135M": bundled,
            **{size: random_base(size, bundled, here.home, here.models) for size in OTHER_SIZES},
        }
        cases = [("135M", case) for case in CASES]
        cases += [(size, CASES[0]) for size in OTHER_SIZES]
        for size, case in cases:
            settings = TrainSettings(
                max_steps=options.steps, validation_share=0, checkpoint_steps=10**6, **case
            )
            base = bases[size]
            encoded, _ = encode_all(load_template(base), records, settings.max_length)
            predicted = predict(base, encoded, settings)
            measured = train(spec_of(data, base, settings, None, here), settings).metrics
            rows.append(
                {
                    "model": size,
                    **case,
                    "predicted_mb": round(predicted.memory.total / 2**20),
                    "measured_mb": measured.peak_memory_bytes // 2**20,
                    "memory_ratio": round(predicted.memory.total / measured.peak_memory_bytes, 3),
                    "predicted_tokens_per_second": round(predicted.tokens_per_second),
                    "measured_tokens_per_second": round(measured.tokens_per_second),
                    "time_ratio": round(
                        measured.tokens_per_second / predicted.tokens_per_second, 3
                    ),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    shown = []
    for name in ("8B", "70B"):
        for stage, again in ((2, False), (3, True)):
            recipe = Recipe(zero_stage=stage, gradient_checkpointing=again, max_length=2048)
            made = on_eight_gpus(llama(name, 128_256), recipe)
            shown.append(
                {
                    "model": f"Llama-3-{name}",
                    "zero_stage": stage,
                    "gradient_checkpointing": again,
                    "predicted_gb": round(made.memory.total / 1e9, 1),
                    "fits": made.fits,
                    "predicted_tokens_per_second": round(made.tokens_per_second),
                }
            )
            print(json.dumps(shown[-1]), flush=True)
    worst = max(rows, key=lambda row: abs(row["memory_ratio"] - 1))
    print(
        json.dumps(
            {
                "ratios": {
                    "memory_worst": worst["memory_ratio"],
                    "time": [row["time_ratio"] for row in rows],
                },
                "measured": rows,
                "predicted_only": shown,
                "sizes": {"conversations": len(records), "steps": options.steps},
                "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
            }
        )
    )


def on_eight_gpus(config: Any, recipe: Recipe) -> Plan:
    machine = Machine(
        ranks=8, memory_bytes=80e9, flops=989e12, share=STATED_SHARE, gpu=True, name="8 x 80 GB"
    )
    work = Work(conversations=10_000, tokens=1000, supervised=0.4, longest=2048)
    return plan(shape_of(config, recipe, gpu=True), recipe, work, machine)


if __name__ == "__main__":
    main()
