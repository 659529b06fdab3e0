"""Retention: delete text of production traffic that is older than `watch.retention_days`."""

from typing import Any

from prefect import flow, get_run_logger

from data_contracts.workspace import Workspace
from flows.settings import Settings
from tasks.ledger import leases
from tasks.ledger.database import Ledger
from tasks.retention import delete_expired_text, delete_expired_windows


@flow(name="retention", description=__doc__, log_prints=False, validate_parameters=True)
def retention(settings: Settings) -> None:
    """Delete what is too old, whether or not traffic still arrives.

    Args:
        settings: the whole tree of settings.
    """
    workspace = Workspace.current()
    delete_expired(settings, Ledger(settings.ledger, workspace), workspace)


def delete_expired(settings: Settings, ledger: Ledger, workspace: Workspace) -> None:
    """Delete what is too old. What cannot be deleted is said, and tried again the next time."""
    days = settings.watch.retention_days
    log: Any = get_run_logger()
    problems = delete_expired_windows(ledger, workspace, settings.name, days)
    with ledger.transaction(settings.name) as connection:
        leases.drop_dead(connection, settings.name, settings.limits.stale_seconds)
        running = leases.holder(connection, settings.name)
    if running is None:
        problems += delete_expired_text(workspace, days)
    else:
        log.info("a retrain runs (%s): what it may use is deleted afterwards", running)
    for problem in problems:
        log.error("it is over its retention and stays: %s", problem)
