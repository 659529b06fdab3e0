"""Deployments: what `evergreen up` serves. `prefect.yaml` has the same for a work pool.

`python -m flows.deployments serve [CONFIG]` runs them here; `automate [CONFIG]` only
registers the automations, for deployments that a work pool runs.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Interval, Schedule

from data_contracts.errors import EvergreenError, StackError
from flows.automations import register
from flows.events import TAG
from flows.notify import notify
from flows.reconcile import reconcile
from flows.retention import retention
from flows.retrain import retrain
from flows.rollback import rollback
from flows.settings import Settings, load_settings, published, secret_variables
from flows.train import train
from flows.watch import watch
from tasks.notify import NotifySettings

# How often the runner asks for work: what a retrain waits for most after an event.
POLL_SECONDS = 1.0

# Schedules count from here: by then the files of the last hour are written.
ANCHOR = datetime(2020, 1, 1, 0, 5, tzinfo=UTC)


def deployments(settings: Settings) -> list[RunnerDeployment]:
    """All deployments with their schedules. That of `watch` rests while no logs are set."""
    parameters = {"settings": published(settings)}
    found = [
        retrain.to_deployment(
            "retrain",
            description="Retrain with these settings; change any of them for one run.",
            parameters=parameters,
            tags=[TAG],
        ),
        watch.to_deployment(
            "watch",
            description="Look at new inference logs; ask for a retrain if drift lasts.",
            parameters=parameters,
            schedule=regular(settings.watch.every_minutes, active=bool(settings.watch.logs)),
            tags=[TAG],
        ),
        reconcile.to_deployment(
            "reconcile",
            description="Start the retrains that were asked for and have not run.",
            parameters=parameters,
            schedule=regular(settings.limits.reconcile_minutes),
            tags=[TAG],
        ),
        retention.to_deployment(
            "retention",
            description="Delete text of production traffic that is too old.",
            parameters=parameters,
            schedule=regular(60),
            tags=[TAG],
        ),
        rollback.to_deployment(
            "rollback",
            description="Make an earlier version champion again.",
            parameters=parameters,
            tags=[TAG],
        ),
        train.to_deployment(
            "train",
            description="The training stage alone, for retrains with train.deployment.",
            tags=[TAG],
        ),
        notify.to_deployment(
            "notify", description="Write into the log what people should know.", tags=["notify"]
        ),
    ]
    # Prefect's functions serve sync and async callers; we are sync.
    return cast(list[RunnerDeployment], found)


def regular(minutes: float, active: bool = True) -> Schedule:
    """Every so often, counted from five past a full hour: a restart does not put it off.

    By its slug Prefect knows the schedule again, whoever registered it.
    """
    return Interval(timedelta(minutes=minutes), anchor_date=ANCHOR, slug="regular", active=active)


def serve_all(settings: Settings) -> None:
    """Register deployments and automations, and run what is asked of them.

    Parameters are for everybody who sees Prefect. A secret that was given as text is in this
    process's environment instead, and in that of the runs it starts.
    """
    os.environ.update(secret_variables(settings))
    served = deployments(settings)
    register({deployment.name: take_over(deployment) for deployment in served}, *told(settings))
    serve(*served, pause_on_shutdown=False, query_seconds=POLL_SECONDS)


def take_over(deployment: RunnerDeployment) -> UUID:
    """Register it to run from this folder, whatever work pool or checkout had it before.

    Prefect leaves alone what a deployment does not say, and never says where its code is.
    """
    deployment.work_pool_name = None
    registered = cast(UUID, deployment.apply())
    with get_client(sync_client=True) as client:
        client.update_deployment(registered, DeploymentUpdate(path=deployment._path))
    return registered


def automate(settings: Settings) -> None:
    """Register the automations for deployments that are there already.

    Raises:
        StackError: one is missing.
    """
    found = {}
    with get_client(sync_client=True) as client:
        for name in ("retrain", "reconcile", "rollback", "notify"):
            try:
                found[name] = client.read_deployment_by_name(f"{name}/{name}").id
            except ObjectNotFound as error:
                raise StackError(
                    f"there is no deployment {name}/{name}", "run `prefect deploy --all` first"
                ) from error
    register(found, *told(settings))


def told(settings: Settings) -> tuple[NotifySettings, timedelta, tuple[str, ...]]:
    """What the automations need to know of the settings."""
    every = timedelta(minutes=settings.limits.reconcile_minutes)
    return settings.notify, every, settings.promote.rollback_on


def main(command: str, config: Path | None) -> None:
    """`serve` or `automate`. What a user can mend is one line, never a traceback."""
    try:
        {"serve": serve_all, "automate": automate}[command](load_settings(config))
    except EvergreenError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
