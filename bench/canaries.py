"""What a tuned model gives away of planted personal data, with and without the scrub.

    python -m bench.canaries [--rows 300] [--canaries 3] [--candidates 255] [--tiny]

Telephone numbers, e-mail addresses and card numbers are planted 0, 1, 4 and 16 times among
bundled conversations. The project's own training runs twice: on the text as it is, and on the
same text after the scrub. Then every canary's secret is ranked among `candidates` others
(`models.exposure`). Bits are means over the canaries planted equally often: a secret never seen
has about 1.44, and no more than log2 (candidates + 1) can be measured. `--tiny` takes the tests'
model and a scrub without the learned detector, to see that it works. The last line is one JSON
object.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_contracts.home_keys import passing_key
from data_contracts.records import Record
from data_contracts.workspace import HOME_VARIABLE, Workspace
from infra.local import environment
from models.base import Base, ModelSettings, resolve_base
from models.exposure import (
    CARD_NUMBER,
    EMAIL_ADDRESS,
    PHONE_NUMBER,
    Canary,
    Exposure,
    canaries,
    exposure,
    mean_bits,
    p_value,
    plant,
)
from models.template import load_template

COUNTS = (0, 1, 4, 16)
KINDS = (PHONE_NUMBER, EMAIL_ADDRESS, CARD_NUMBER)
MAX_LENGTH = 256
SEED = 7


def measure(options: argparse.Namespace, workspace: Workspace) -> dict[str, Any]:
    every = canaries(len(COUNTS) * options.canaries, seed=SEED, formats=KINDS)
    planted = {times: every[number :: len(COUNTS)] for number, times in enumerate(COUNTS)}
    raw = conversations(options.rows)
    for times, made in planted.items():
        raw = plant(raw, made, times)
    clean = scrub(raw, workspace, detector=not options.tiny)
    base = base_model(workspace, tiny=options.tiny)
    found = {
        way: exposures(way, records, base, planted, options, workspace)
        for way, records in (("raw", raw), ("scrubbed", clean))
    }
    bits = {way: {n: mean_bits(some) for n, some in by.items()} for way, by in found.items()}
    return {
        "bench": "canaries",
        "bits": bits,
        "p_values": {
            way: {n: p_value(some) for n, some in by.items()} for way, by in found.items()
        },
        "modelled_bits": {
            way: {n: sum(one.modelled for one in some) / len(some) for n, some in by.items()}
            for way, by in found.items()
        },
        "ratios": {
            f"scrubbed/raw planted {times} times": bits["scrubbed"][times] / bits["raw"][times]
            for times in COUNTS
        },
        "secrets left": {
            "raw": secrets_in(raw, planted[16]),
            "scrubbed": secrets_in(clean, planted[16]),
        },
        "sizes": {
            "rows": options.rows,
            "canaries a count": options.canaries,
            "candidates": options.candidates,
            "epochs": options.epochs,
            "model": "tiny" if options.tiny else base.id,
        },
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
    }


def conversations(rows: int) -> list[Record]:
    from tasks.ingest import IngestSettings, Source, ingest

    listing = ingest(
        IngestSettings(sources=(Source(path="bundled:chitchat", rows=rows),)), passing_key()
    )
    return [row.parse(file.name) for file, row in listing.rows()]


def scrub(records: Iterable[Record], workspace: Workspace, *, detector: bool) -> list[Record]:
    """Each record without its personal data; none is dropped."""
    from data_contracts.policy import load_policy
    from flows.settings import load_settings
    from tasks.scrub.detector import built
    from tasks.scrub.engine import Scrubber

    policy = load_policy().model_copy(update={"detector": detector})
    learned = built(policy, load_settings(None).scrub.detector, workspace)
    scrubber = Scrubber(policy, Path(learned.path) if learned else None)
    return [
        record.model_copy(update={"messages": scrubber.scrub(record.messages).messages})
        for record in records
    ]


def secrets_in(records: Iterable[Record], planted: Iterable[Canary]) -> int:
    """How many of the records still hold the secret of one of the canaries."""
    secrets = [canary.secret for canary in planted]
    return sum(any(secret in record.text for secret in secrets) for record in records)


def base_model(workspace: Workspace, *, tiny: bool) -> Base:
    if not tiny:
        return resolve_base(ModelSettings(), workspace.models)
    from tests.tiny import make_tiny_model

    folder = make_tiny_model(workspace.home / "tiny")
    return resolve_base(ModelSettings(base=str(folder), dtype="float32"), workspace.models)


def exposures(
    way: str,
    records: Sequence[Record],
    base: Base,
    planted: dict[int, list[Canary]],
    options: argparse.Namespace,
    workspace: Workspace,
) -> dict[int, list[Exposure]]:
    """Train on the records; the exposure of the canaries by how often they were planted."""
    from data_contracts.snapshots import write_records
    from models.adapters import load_model
    from tasks.train import TrainSettings, spec_of, train

    settings = TrainSettings(max_length=MAX_LENGTH, epochs=options.epochs)
    if options.tiny:  # random weights learn only with a large adapter and at a high rate
        settings = settings.model_copy(update={"learning_rate": 1e-2, "lora_rank": 32})
    data = write_records(str(workspace.snapshots), way, records, parent=None, provenance={})
    trained = train(spec_of(data, base, settings, None, workspace), settings)
    print(f"{way}: trained in {trained.metrics.train_seconds:.0f} s", flush=True)
    model, template = load_model(base, trained.adapter), load_template(base)
    found = {}
    for times, made in planted.items():
        found[times] = exposure(model, template, made, seed=SEED, candidates=options.candidates)
        print(
            f"{way}: planted {times} times, {mean_bits(found[times]):.2f} bits,"
            f" ranks {[one.rank for one in found[times]]} of {options.candidates + 1},"
            f" p {p_value(found[times]):.2g}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--canaries", type=int, default=3, help="for each count of plantings")
    parser.add_argument("--candidates", type=int, default=255)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as scratch:
        workspace = Workspace(home=Path(scratch))
        workspace.create()
        os.environ.update(environment(workspace) | {HOME_VARIABLE: str(workspace.home)})
        print(json.dumps(measure(options, workspace)))


if __name__ == "__main__":
    main()
