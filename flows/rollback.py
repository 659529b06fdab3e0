"""Rollback: make a version champion again that was champion before."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from data_contracts.workspace import Workspace
from flows.events import tell
from flows.settings import Settings
from tasks import tracking
from tasks.ledger.database import Ledger
from tasks.promote import Promotion
from tasks.promote import rollback as roll_back
from tasks.stage import naming_disks


@flow(name="rollback", description=__doc__, log_prints=False, validate_parameters=True)
@naming_disks
def rollback(
    settings: Settings,
    to: str = "previous",
    reason: str = "asked for by a person",
    unattended: bool = False,
) -> Promotion:
    """Load a version, have it answer, make it champion, and tell whoever serves it.

    Args:
        settings: the whole tree of settings.
        to: a version or an alias.
        reason: why, for the history.
        unattended: an automation asks: what a rollback took down is not brought back.

    Raises:
        RegistryError: there is no such version, or it cannot be used.
    """
    workspace = Workspace.current()
    workspace.create()
    promotion = roll_back(
        tracking.connect(settings.tracking, workspace),
        settings.name,
        to,
        workspace,
        Ledger(settings.ledger, workspace),
        by=str(flow_run.get_id()),
        reason=reason,
        unattended=unattended,
    )
    if promotion.changed:
        tell(settings, promotion, "rollback", reason)
    log: Any = get_run_logger()
    log.warning("version %s is champion, was %s", promotion.champion, promotion.previous)
    return promotion
