"""Leases name a process by boot and start; paths below the home are relative to it."""

import json
import re
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# The places below EVERGREEN_HOME that 0.1.0 wrote into the ledger, wherever the home was.
BELOW_HOME = re.compile(r"/.*/(snapshots/[^/]+|windows/[^/]+/[^/]+/[^/]+)")


def upgrade() -> None:
    with op.batch_alter_table("evergreen_leases") as leases:
        leases.alter_column("process", existing_type=sa.String(60), type_=sa.String(200))
    _rewrite("evergreen_windows", "sequence", "features", _relative)
    _rewrite("evergreen_windows", "sequence", "report", _relative)
    _rewrite("evergreen_windows", "sequence", "snapshot", _relative_in("path"))
    _rewrite("evergreen_regressions", "id", "snapshot", _relative_in("path"))
    _rewrite("evergreen_requests", "id", "evidence", _relative_in("report"))


def _rewrite(table: str, key: str, column: str, change: Callable[[str], str]) -> None:
    there = sa.table(table, sa.column(key), sa.column(column))
    connection = op.get_bind()
    for identifier, value in connection.execute(sa.select(there.c[key], there.c[column])).all():
        if (changed := change(value)) != value:
            connection.execute(
                sa.update(there).where(there.c[key] == identifier).values({column: changed})
            )


def _relative(path: str) -> str:
    below = BELOW_HOME.fullmatch(path)
    return f"evergreen-home:{below[1]}" if below else path


def _relative_in(key: str) -> Callable[[str], str]:
    """The same for one key of a JSON object."""

    def change(text: str) -> str:
        try:
            content = json.loads(text)
        except ValueError:
            return text  # damaged before; whoever reads it says so
        if not isinstance(content, dict) or not isinstance(content.get(key), str):
            return text
        return json.dumps({**content, key: _relative(content[key])})

    return change
