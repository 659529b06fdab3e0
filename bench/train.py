"""Fine-tuning speed and memory: Evergreen's engine beside TRL's SFTTrainer, and its parts.

    python -m bench.train [--conversations 320] [--steps 24] [--peer-steps 5] [--ranks 2]
    python -m bench.train --shape 8B --batch-size 64 --peer-batch 16 --peer-steps 24   # on a GPU

The same base, LoRA, conversations, precision, sequence length and batch for all: SmolLM2-135M in
bfloat16, rank 16 on all linear layers, human conversations of at most 512 tokens, 8 a step, loss on
what the assistant says. TRL runs in an environment of its own (`bench/peers`, made below `build/`;
this one, where it has TRL), as it comes, with its packing, and without the gradient checkpointing
that it comes with. Tokens are those of the conversations, never padding; the ceiling is the matrix
rate of this machine, measured with as many processes at once as there are ranks, over the
operations that a token takes. With `--shape` the base has random weights in the shape of a larger
model: speed is that of the real one, losses say nothing. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.peers.environment import PEERS, python_of
from bench.shapes import SHAPES, random_base
from data_contracts.records import Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from models.adapters import load_model
from models.base import Base, ModelSettings, load_config, resolve_base
from models.chat import Example, encode_all
from models.memory import release
from models.packing import steps
from models.plan import Plan, Work, flops_a_token, plan, shape_of
from models.score import mean_loss, score
from models.spec import StepMetrics
from models.template import load_template
from tasks.plan import this_machine
from tasks.sources import chitchat_rows
from tasks.train import TrainSettings, default_processes, spec_of, train

HELD_OUT = 60
PEER_OPTIONS: dict[str, dict[str, Any]] = {
    "TRL SFTTrainer": {},
    "TRL, packing": {"packing": True},
    "TRL, no gradient checkpointing": {"gradient_checkpointing": False},
    "TRL, Liger's kernels, no gradient checkpointing": {
        "use_liger_kernel": True,
        "gradient_checkpointing": False,
    },
}
# What else of ours is measured, over a third of the steps.
VARIANTS: dict[str, dict[str, Any]] = {
    "compiled": {"compile": True},
    "padded": {"packing": False},
    "ZeRO-3": {"zero_stage": 3},
    "QLoRA": {"quantize": "nf4"},  # on a GPU, with bitsandbytes
}


def conversations(count: int) -> list[Record]:
    """Of two turns and more, as the data set has them."""
    records = []
    for number, row in enumerate(chitchat_rows()):
        if len(row["messages"]) >= 4:
            records.append(Record(id=f"chat-{number}", messages=row["messages"], source="chitchat"))
        if len(records) == count:
            break
    return records


def snapshot(records: list[Record], folder: Path) -> Snapshot:
    return write_records(str(folder), "bench", records, parent=None, provenance={})


def prepared() -> tuple[Workspace, Base]:
    """The workspace, where DeepSpeed's kernels are kept too, and the bundled model."""
    workspace = Workspace.current()
    workspace.create()
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(workspace.home / "torch_extensions"))
    return workspace, resolve_base(ModelSettings(), workspace.models)


def ceiling(base: Base, settings: TrainSettings, supervised: float) -> tuple[float, float]:
    """(operations a second of all ranks at once, tokens a second that those would give)."""
    shape, ranks = shape_of(load_config(base), settings), settings.processes or 1
    code = (
        "import torch, sys; torch.set_num_threads(int(sys.argv[1]));"
        "from models.plan import matrix_rate;"
        "print(matrix_rate(torch.bfloat16, 4.0))"
    )
    threads = max(1, (os.cpu_count() or 1) // ranks)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(threads)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(ranks)
    ]
    rate = sum(float(one.communicate()[0]) for one in running)
    return rate, rate / flops_a_token(shape, settings, supervised)


def predict(base: Base, encoded: list[Example], settings: TrainSettings) -> Plan:
    shape, here = shape_of(load_config(base), settings), this_machine(settings, torch.bfloat16)
    return plan(shape, settings, Work.of(encoded), here)


def held_out_loss(load: Callable[[], Any], examples: list[Example], pad: int) -> float:
    """Of a model that is loaded for it, and gone after it."""
    loss = mean_loss(score(load(), examples, pad))
    release()
    return round(loss, 4)


def peer_model(base: Base, folder: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(load_model(base), folder).eval()


def peer(
    name: str,
    base: Base,
    data: Path,
    settings: TrainSettings,
    folder: Path,
    *,
    steps: int,
    at_once: int,
) -> Any:
    output = folder / name.replace(" ", "-").replace(",", "")
    work = folder / "work.json"
    options = {
        "base": base.path,
        "data": str(data),
        "recipe": settings.model_dump(mode="json"),
        "steps": steps,
        "at_once": at_once,
        "output": str(output),
        "options": PEER_OPTIONS[name],
    }
    work.write_text(json.dumps(options), encoding="utf-8")
    python = sys.executable if importlib.util.find_spec("trl") else python_of("trl")
    command = [python, PEERS / "trl_sft.py", work]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"output": output}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=320)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--peer-steps", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=default_processes())
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--peer-batch", type=int, help="a pass of a peer; default the whole batch")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--peers", nargs="*", choices=PEER_OPTIONS, default=list(PEER_OPTIONS)[:3])
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS)[:3])
    options = parser.parse_args()

    _, base = prepared()
    settings = TrainSettings(
        max_steps=options.steps,
        epochs=1000,
        batch_size=options.batch_size,
        validation_share=0,
        processes=options.ranks,
        checkpoint_steps=10**6,
    )
    records = conversations(options.conversations + HELD_OUT)
    learn, held_out = records[HELD_OUT:], records[:HELD_OUT]
    template = load_template(base)
    encoded, _ = encode_all(template, learn, settings.max_length)
    examples, _ = encode_all(template, held_out, settings.max_length)
    tokens = sum(len(one.input_ids) for one in encoded)
    supervised = sum(one.supervised for one in encoded) / tokens

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.shape:
            base = random_base(options.shape, base, folder, folder / "models")

        def loss_of(load: Callable[[], Any]) -> float | None:
            if options.shape:
                return None
            return held_out_loss(load, examples, template.tokenizer.pad_token_id)

        predicted = predict(base, encoded, settings)
        rate, most = ceiling(base, settings, supervised)
        print(f"matrix rate {rate / 1e9:.0f} GFLOP/s, at most {most:.0f} tokens/s", flush=True)
        here = Workspace(home=folder)
        data = snapshot(learn, here.snapshots)
        jsonl = folder / "data.jsonl"
        with jsonl.open("w", encoding="utf-8") as file:
            for one in learn:
                messages = [message.model_dump() for message in one.messages]
                file.write(json.dumps({"messages": messages}) + "\n")

        def ours(name: str, changed: TrainSettings) -> None:
            ends: list[float] = []

            def follow(event: Any) -> None:
                if isinstance(event, StepMetrics):
                    ends.append(time.perf_counter())

            trained = train(spec_of(data, base, changed, None, here), changed, follow)
            metrics, half = trained.metrics, len(ends) // 2
            order = steps(
                len(encoded), changed.batch_size, changed.epochs, metrics.steps, changed.seed
            )
            later = sum(len(encoded[index].input_ids) for step in order[half:] for index in step)
            rows.append(
                {
                    "engine": name,
                    "tokens_per_second": round(metrics.tokens_per_second, 1),
                    "later_tokens_per_second": round(later / (ends[-1] - ends[half - 1]), 1),
                    "steps": metrics.steps,
                    "supervised_tokens": metrics.supervised_tokens,
                    "start_seconds": round(metrics.start_seconds, 1),
                    "peak_mb": metrics.peak_memory_bytes // 2**20,
                    "packed": metrics.packed,
                    "held_out_loss": loss_of(partial(load_model, base, trained.adapter)),
                }
            )
            print(json.dumps(rows[-1]), flush=True)

        ours("Evergreen", settings)
        if options.peer_steps != options.steps:
            same = {"max_steps": options.peer_steps}
            ours("Evergreen, as many steps as TRL", settings.model_copy(update=same))
        for peer_name in options.peers:
            told = peer(
                peer_name,
                base,
                jsonl,
                settings,
                folder,
                steps=options.peer_steps,
                at_once=options.peer_batch or options.batch_size,
            )
            rows.append(
                {
                    "engine": peer_name,
                    "tokens_per_second": round(told["tokens"] / told["seconds"], 1),
                    "later_tokens_per_second": round(
                        told["later_tokens"] / told["later_seconds"], 1
                    ),
                    "steps": told["steps"],
                    "start_seconds": round(told["start_seconds"], 1),
                    "peak_mb": told["peak_mb"],
                    "held_out_loss": loss_of(partial(peer_model, base, told["output"])),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        for variant in options.variants:
            steps_of_it = options.steps if variant == "compiled" else max(1, options.steps // 3)
            changes = {**VARIANTS[variant], "max_steps": steps_of_it}
            ours(f"Evergreen, {variant}", settings.model_copy(update=changes))
        before = loss_of(partial(load_model, base))

    def ratios(speed: str) -> dict[str, float]:
        of = {row["engine"]: row[speed] for row in rows}
        return {
            **{name: round(of["Evergreen"] / of[name], 2) for name in options.peers},
            "share_of_ceiling": round(of["Evergreen"] / most, 3),
        }

    print(
        json.dumps(
            {
                "ratios": ratios("tokens_per_second"),
                "ratios_of_the_later_half": ratios("later_tokens_per_second"),
                "ceiling_tokens_per_second": round(most),
                "matrix_gflops": round(rate / 1e9),
                "supervised_share": round(supervised, 3),
                "held_out_loss_of_the_base": before,
                "plan": {
                    "tokens_per_second": round(predicted.tokens_per_second),
                    "micro_batch_tokens": predicted.micro_batch_tokens,
                    "memory_mb": {
                        name: round(value / 2**20)
                        for name, value in predicted.memory.model_dump().items()
                    },
                },
                "engines": rows,
                "sizes": {
                    "base": options.shape or "SmolLM2-135M",
                    "conversations": len(encoded),
                    "tokens": tokens,
                    "batch_size": options.batch_size,
                    "ranks": options.ranks,
                },
                "machine": {
                    "cpu": platform.machine(),
                    "cores": psutil.cpu_count(),
                    "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
