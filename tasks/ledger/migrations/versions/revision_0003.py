"""Log records are known by keyed digests; those that were made without a key are deleted.

Whoever has such a digest can try texts until one fits. What they were counted by is kept as a
moment: all records before it are taken for counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    keys = op.create_table(
        "evergreen_log_keys",
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("since", sa.Integer),
    )
    connection = op.get_bind()
    counted = {
        **_last("evergreen_seen", sa.column("at") + 1),
        **_last("evergreen_windows", sa.column("end")),
    }
    for model, since in counted.items():
        connection.execute(sa.insert(keys).values(model=model, fingerprint="", since=since))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")  # or they stay in free pages
    connection.execute(sa.delete(sa.table("evergreen_seen")))


def _last(table: str, moment: sa.ColumnElement[int]) -> dict[str, int]:
    """{model: the end of what was counted, seconds since 1970}"""
    model: sa.ColumnClause[str] = sa.column("model")
    query = sa.select(model, sa.func.max(moment)).select_from(sa.table(table)).group_by(model)
    return {name: int(last) for name, last in op.get_bind().execute(query)}
