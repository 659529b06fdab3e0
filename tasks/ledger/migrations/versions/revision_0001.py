"""The tables of Evergreen 0.1.0."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    _requests()
    _promotions()
    _windows()


def _requests() -> None:
    op.create_table(
        "evergreen_requests",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("champion", sa.String(40), nullable=False),
        sa.Column("episode", sa.String(80), nullable=False),
        sa.Column("trigger", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("dispatches", sa.Integer, nullable=False),
        sa.Column("flow_run", sa.String(40)),
        sa.Column("requested_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("started_at", Moment),
        sa.Column("retry_at", Moment),
        sa.Column("compute_seconds", sa.Float, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.UniqueConstraint("model", "champion", "episode"),
    )
    op.create_table(
        "evergreen_history",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("request", sa.String(32), nullable=False, index=True),
        sa.Column("at", Moment, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("flow_run", sa.String(40)),
    )
    op.create_table(
        "evergreen_leases",
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("token", sa.String(40), nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("process", sa.String(60), nullable=False),
        sa.Column("what", sa.String(200), nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
    )


def _promotions() -> None:
    op.create_table(
        "evergreen_promotions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(200), nullable=False, index=True),
        sa.Column("at", Moment, nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("before", sa.String(40)),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "evergreen_regressions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(200), nullable=False, index=True),
        sa.Column("at", Moment, nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
    )


def _windows() -> None:
    op.create_table(
        "evergreen_windows",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("champion", sa.String(40), nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("end", sa.Integer, nullable=False),
        sa.Column("judged_at", Moment, nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("strong", sa.Boolean, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("features", sa.Text, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.UniqueConstraint("model", "id"),
    )
    op.create_table(
        "evergreen_episodes",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("model", sa.String(200), nullable=False, index=True),
        sa.Column("champion", sa.String(40), nullable=False),
        sa.Column("opened_at", Moment, nullable=False),
        sa.Column("closed_at", Moment),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "evergreen_seen",
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), primary_key=True),
        sa.Column("at", sa.Integer, nullable=False),
    )
    op.create_table(
        "evergreen_files",
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("uri", sa.String(1000), primary_key=True),
        sa.Column("version", sa.String(200), nullable=False),
    )
