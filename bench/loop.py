"""What the whole loop costs beside the work in it.

The same data, model and settings through three ways, in one run:

- `plain`: the stages called one after the other as functions, as hand-written glue does;
- `first`: the retrain flow on an empty EVERGREEN_HOME (Prefect, MLflow, registry, reports);
- `again`: the same retrain once more.

`python -m bench.loop [--rows 400] [--steps 10]`. The default model is the bundled one.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_contracts.home_keys import passing_key
from data_contracts.workspace import HOME_VARIABLE, Workspace
from infra.local import PrefectApi, environment


def measure(rows: int, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as scratch:
        workspace = Workspace(home=Path(scratch) / "flow")
        os.environ[HOME_VARIABLE] = str(workspace.home)
        workspace.create()
        os.environ.update(environment(workspace))
        api = PrefectApi(workspace)

        from flows.settings import Settings

        settings = Settings.model_validate(
            {
                "data": {"sources": [{"path": "bundled:chitchat", "rows": rows}]},
                "train": {"max_length": 256, "max_steps": steps},
                "evaluate": {"max_items": 20, "max_length": 256, "answers": 8},
            }
        )
        # Both ways find the base model converted and the kernels compiled.
        from models.base import resolve_base

        resolve_base(settings.model, workspace.models)
        warm_up(settings, workspace)

        plain = timed(lambda: run_plain(settings, workspace, Path(scratch) / "plain"))
        start = time.perf_counter()
        with api.running():
            server = time.perf_counter() - start
            from flows.retrain import retrain

            first = timed(lambda: retrain(settings))
            again = timed(lambda: retrain(settings))
    return {
        "bench": "loop",
        "seconds": {"plain": plain, "first": first, "again": again, "server start": server},
        "ratios": {"first/plain": first / plain, "again/first": again / first},
        "sizes": {"rows": rows, "steps": steps},
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
    }


def warm_up(settings: Any, workspace: Workspace) -> None:
    """Two steps of training: compiles DeepSpeed's kernel, which is kept below the home."""
    small = settings.model_copy(
        update={"train": settings.train.model_copy(update={"max_steps": 2})}
    )
    run_plain(small, workspace, workspace.home.parent / "warm")


def run_plain(settings: Any, workspace: Workspace, home: Path) -> None:
    """The stages as functions: no orchestration, no tracking, no registry."""
    from data_contracts.contract import load_contract
    from data_contracts.policy import load_policy
    from models.base import resolve_base
    from models.encoder import Encoder
    from tasks.decide import decide
    from tasks.evaluate import Evaluation, evaluate
    from tasks.evaluate.sets import EvaluationSets, general, slices
    from tasks.evaluate.stage import personal_data
    from tasks.ingest import ingest
    from tasks.scrub import Job, scrub
    from tasks.scrub.detector import built
    from tasks.split import split
    from tasks.train import spec_of, train
    from tasks.validate import validate

    here = Workspace(home=home)
    here.create()
    policy = load_policy()
    detector = built(policy, settings.scrub.detector, workspace)
    listing = ingest(settings.data, passing_key())
    scrubbed = scrub(listing, Job(policy, detector, settings.scrub, here))
    validated = validate(scrubbed.snapshot, load_contract(), settings.contract, here)
    parts = split(validated.snapshot, settings.split, here)
    base = resolve_base(settings.model, workspace.models)
    trained = train(spec_of(parts.train, base, settings.train, None, here), settings.train)
    encoder = Encoder(settings.encoder)
    sets = EvaluationSets(
        conversations={
            "holdout": parts.holdout,
            "general": general(base, here, settings.evaluate.max_new_tokens),
        },
        training=parts.train,
    )
    scores = [
        evaluate(
            base,
            adapter,
            sets,
            settings.evaluate,
            here,
            encoder=lambda: encoder,
            personal=personal_data(policy, detector),
        )
        for adapter in (trained.adapter, None)
    ]
    evaluation = Evaluation(
        challenger=scores[0],
        champion=None,
        base=scores[1],
        slices=slices(list(parts.holdout.records()), encoder),
    )
    decide(evaluation, settings.decide, is_champion=False)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rows, arguments.steps)))


if __name__ == "__main__":
    main()
