"""The regression set: conversations that once went wrong. It only grows."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, select

from data_contracts.records import Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from tasks.ledger.database import Ledger, now, regressions


class Addition(BaseModel):
    """One addition, and the whole set after it."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    added: int
    by: str
    reason: str
    snapshot: Snapshot


def additions(ledger: Ledger, model: str) -> list[Addition]:
    """All of them, the newest first."""
    with ledger.transaction(model) as connection:
        return _read(connection, model)


def current(ledger: Ledger, model: str) -> Snapshot | None:
    """The set as it is now; None before there is one."""
    found = additions(ledger, model)
    return found[0].snapshot if found else None


def add(
    ledger: Ledger,
    model: str,
    records: Iterable[Record],
    workspace: Workspace,
    *,
    by: str,
    reason: str,
) -> Addition:
    """Add scrubbed conversations; those that the set holds already are not added twice.

    Raises:
        DataError: the set as it was cannot be read.
    """
    with ledger.transaction(model) as connection:
        before = _read(connection, model)
        known = {
            record.content_digest: record
            for record in (before[0].snapshot.records() if before else ())
        }
        new = {record.content_digest: record for record in records}
        fresh = [
            record.model_copy(update={"id": f"regression-{digest[:16]}"})
            for digest, record in new.items()
            if digest not in known
        ]
        if before and not fresh:
            return before[0].model_copy(update={"added": 0})
        snapshot = write_records(
            str(workspace.snapshots),
            "regression",
            [*known.values(), *fresh],
            parent=before[0].snapshot.digest if before else None,
            provenance={"model": model, "reason": reason},
        )
        addition = Addition(at=now(), added=len(fresh), by=by, reason=reason, snapshot=snapshot)
        connection.execute(
            insert(regressions).values(
                model=model,
                **addition.model_dump(exclude={"snapshot"}),
                snapshot=snapshot.model_dump_json(),
            )
        )
        return addition


def _read(connection: Connection, model: str) -> list[Addition]:
    rows = connection.execute(
        select(regressions).where(regressions.c.model == model).order_by(regressions.c.id.desc())
    )
    return [
        Addition(
            at=row.at,
            added=row.added,
            by=row.by,
            reason=row.reason,
            snapshot=Snapshot.model_validate_json(row.snapshot),
        )
        for row in rows
    ]
