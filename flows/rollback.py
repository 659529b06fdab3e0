"""Rollback: make a version champion again that was champion before."""

from typing import Any

from prefect import flow, get_run_logger

from data_contracts.workspace import Workspace
from flows.settings import Settings
from tasks import tracking
from tasks.promote import Promotion
from tasks.promote import rollback as roll_back


@flow(name="rollback", description=__doc__, log_prints=False, validate_parameters=True)
def rollback(settings: Settings, to: str = "previous") -> Promotion:
    """Load a version, have it answer, and make it champion.

    Args:
        settings: the whole tree of settings.
        to: a version or an alias.

    Raises:
        RegistryError: there is no such version, or it cannot be used.
    """
    workspace = Workspace.current()
    client = tracking.connect(settings.tracking, workspace)
    promotion = roll_back(client, settings.name, to, workspace)
    log: Any = get_run_logger()
    log.warning("version %s is champion, was %s", promotion.champion, promotion.previous)
    return promotion
