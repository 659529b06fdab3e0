"""Zombies: flow runs that Prefect takes for running, and that no process runs any more.

A killed process says nothing, and a restart forgets what the server was waiting for; but each
run of ours sends a heartbeat every 30 seconds (`PREFECT_FLOWS_HEARTBEAT_FREQUENCY`), and the
server keeps those.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOrder,
    EventResourceFilter,
)
from prefect.states import Crashed

HEARTBEAT = "prefect.flow-run.heartbeat"
# Three heartbeats.
SILENT = timedelta(seconds=90)


def crash_zombies(client: SyncPrefectClient, tag: str) -> list[str]:
    """Mark the running flow runs with this tag as crashed that have fallen silent.

    A run that never sent a heartbeat is left alone: it may run where none are set up.

    Returns:
        their names
    """
    running = FlowRunFilter.model_validate(
        {"tags": {"all_": [tag]}, "state": {"type": {"any_": ["RUNNING", "PAUSED", "CANCELLING"]}}}
    )
    crashed = []
    for run in client.read_flow_runs(flow_run_filter=running):
        heard = _last_heartbeat(client, run.id)
        if heard is not None and datetime.now(UTC) - heard > SILENT:
            gone: State[Any] = Crashed(message="its heartbeat stopped: the process is gone")
            client.set_flow_run_state(run.id, gone)
            crashed.append(run.name)
    return crashed


def _last_heartbeat(client: SyncPrefectClient, run: UUID) -> datetime | None:
    heartbeats = EventFilter(
        event=EventNameFilter(name=[HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run}"]),
        order=EventOrder.DESC,
    )
    found = client.read_events(heartbeats, limit=1).events
    return found[0].received if found else None
