"""Deployments: what `evergreen up` serves. `prefect.yaml` has the same for a work pool."""

import sys
from pathlib import Path
from typing import cast

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment

from flows.retrain import retrain
from flows.settings import load_settings


def serve_all(config: Path | None) -> None:
    """Register the deployments, with the settings of `config`, and run what is asked of them."""
    settings = load_settings(config)
    deployment = retrain.to_deployment(
        "retrain",
        description="Retrain with these settings; change any of them for one run.",
        parameters={"settings": settings.model_dump(mode="json")},
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        tags=["evergreen"],
    )
    serve(cast(RunnerDeployment, deployment), pause_on_shutdown=False)


if __name__ == "__main__":
    serve_all(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
