"""Deployments that are served for as long as a test needs them, and leave nothing for the next.

The tests of a worker share a Prefect server. An automation or a run that waits there, made by an
earlier test, would be taken up by the next runner, with the earlier test's settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_contracts.workspace import Workspace
from infra.local import serve_deployments
from tasks import processes


@contextmanager
def served(workspace: Workspace, prefect_api: str, settings: Path | None) -> Iterator[None]:
    forget()
    runner = serve_deployments(workspace, prefect_api, settings)
    try:
        yield
    finally:
        processes.stop(runner)
        forget()


def forget() -> None:
    """Remove the automations of Evergreen and every run that has not begun."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from flows.automations import registered, remove

    for name in registered("evergreen"):
        remove(name)
    waiting = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "PAUSED"]}}}
    )
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=waiting):
            for run in found:
                client.delete_flow_run(run.id)
