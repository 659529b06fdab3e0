"""Reconcile: start the retrains that were asked for and have not run."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.deployments import run_deployment

from data_contracts.workspace import Workspace
from flows.events import TAG
from flows.settings import Settings
from flows.zombies import crash_zombies
from tasks.ledger.database import Ledger
from tasks.ledger.requests import Request, due
from tasks.stage import naming_disks

RETRAIN = "retrain/retrain"


def tag(request: Request) -> str:
    """What the flow runs that the reconciler starts for a request are tagged with."""
    return f"request:{request.id}"


@flow(name="reconcile", description=__doc__, log_prints=False, validate_parameters=True)
@naming_disks
def reconcile(settings: Settings) -> list[str]:
    """Mark what died, and start every retrain that the ledger shows undone.

    Returns:
        ids of the requests that were started
    """
    ledger = Ledger(settings.ledger, Workspace.current())
    log: Any = get_run_logger()
    with get_client(sync_client=True) as client:
        for name in crash_zombies(client, TAG):
            log.warning("flow run %s has crashed: its heartbeat stopped", name)
    started = []
    for request in due(ledger, settings.name, settings.limits):
        if _is_queued(request):
            log.info("%s: a run waits already", request.id)
            continue
        run_deployment(
            RETRAIN,
            parameters={"request": request.id},
            timeout=0,
            tags=[tag(request)],
            # Two reconcilers that got here start one run.
            idempotency_key=f"{request.id}-{request.dispatches}",
        )
        log.warning("started request %s: %s", request.id, request.reason)
        started.append(request.id)
    return started


def _is_queued(request: Request) -> bool:
    """Whether a run of ours waits for a worker: more of them would not be sooner."""
    queued = FlowRunFilter.model_validate(
        {
            "tags": {"all_": [tag(request)]},
            "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}},
        }
    )
    with get_client(sync_client=True) as client:
        return bool(client.read_flow_runs(flow_run_filter=queued, limit=1))
