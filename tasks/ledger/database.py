"""The ledger's tables and transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from data_contracts.databases import database_url, hide_password, without_password
from data_contracts.errors import StackError
from data_contracts.workspace import Workspace
from tasks.home.opening import open_home
from tasks.ledger.migrations import HEAD, UnknownRevision, upgrade
from tasks.secrets import Address

BUSY_SECONDS = 60


class LedgerSettings(BaseModel):
    """Where the ledger is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Address | None = Field(
        default=None,
        description="`postgresql://...` for a team; default SQLite below EVERGREEN_HOME. A secret"
        " if it holds a password.",
    )


class Moment(TypeDecorator[datetime]):
    """UTC everywhere; SQLite forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC) if not value.tzinfo else value


class database_clock(FunctionElement[datetime]):  # noqa: N801 - reads as a function of SQL
    """The time by the database's clock: the same for all machines that use one ledger."""

    type = Moment()
    inherit_cache = True


@compiles(database_clock, "sqlite")
def _sqlite_clock(_element: Any, _compiler: Any, **_: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(database_clock, "postgresql")
def _postgres_clock(_element: Any, _compiler: Any, **_: Any) -> str:
    # CURRENT_TIMESTAMP is the transaction's start, which may have waited for another's end.
    return "clock_timestamp()"


metadata = MetaData()

requests = Table(
    "evergreen_requests",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("model", String(200), nullable=False),
    Column("champion", String(40), nullable=False),
    Column("episode", String(80), nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("dispatches", Integer, nullable=False, default=0),
    Column("flow_run", String(40)),
    Column("requested_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("retry_at", Moment),
    Column("compute_seconds", Float, nullable=False, default=0.0),
    Column("evidence", Text, nullable=False, default="{}"),
    UniqueConstraint("model", "champion", "episode"),
)

history = Table(
    "evergreen_history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("request", String(32), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("flow_run", String(40)),
)

# One row a model that is being retrained: who does it, and when that was last heard of.
leases = Table(
    "evergreen_leases",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("token", String(40), nullable=False),
    Column("host", String(200), nullable=False),
    Column("process", String(200), nullable=False),
    Column("what", String(200), nullable=False),
    Column("seen_at", Moment, nullable=False),
)

windows = Table(
    "evergreen_windows",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False),
    Column("model", String(200), nullable=False),
    Column("champion", String(40), nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("judged_at", Moment, nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("strong", Boolean, nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("features", Text, nullable=False),
    Column("report", Text, nullable=False),
    UniqueConstraint("model", "id"),
)

episodes = Table(
    "evergreen_episodes",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("model", String(200), nullable=False, index=True),
    Column("champion", String(40), nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("reason", Text, nullable=False),
)

# Append-only: what was to become champion, and whether it did.
promotions = Table(
    "evergreen_promotions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String(200), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("action", String(20), nullable=False),
    Column("version", String(40), nullable=False),
    Column("before", String(40)),
    Column("state", String(20), nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
)

# Append-only: the regression set after each addition, a snapshot that holds all before it.
regressions = Table(
    "evergreen_regressions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String(200), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("added", Integer, nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
)

# Keyed digests of log records that a window has counted; forgotten when they are too late to come
# again.
seen = Table(
    "evergreen_seen",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("digest", LargeBinary(16), primary_key=True),
    Column("at", Integer, nullable=False),
)

# The fingerprint of the key of those digests. Records before `since` were counted under another.
log_keys = Table(
    "evergreen_log_keys",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("fingerprint", String(16), nullable=False),
    Column("since", Integer),
)

files = Table(
    "evergreen_files",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("uri", String(1000), primary_key=True),
    Column("version", String(200), nullable=False),
)


class Ledger:
    """An open ledger. Cheap to make; its tables are made or upgraded where that is needed."""

    def __init__(self, settings: LedgerSettings, workspace: Workspace) -> None:
        """Raises StackError: the database cannot be used, or a later Evergreen has upgraded it.
        ConfigError: its URL cannot be read where the setting says."""
        open_home(workspace)
        file = f"sqlite:///{workspace.home / 'ledger.db'}"
        url = file if settings.url is None else settings.url.reveal("ledger.url")
        try:
            self._engine = _engine(database_url(url))
            with self._engine.begin() as connection:
                if not self.is_sqlite:  # two that make the tables at once would collide
                    connection.execute(text("SELECT pg_advisory_xact_lock(20261124)"))
                upgrade(connection)
        except UnknownRevision as error:
            raise StackError(
                f"the ledger at {without_password(url)} is of revision {error.revision}, and this"
                f" Evergreen knows revisions up to {HEAD}",
                "upgrade Evergreen here as on the machine that upgraded the ledger",
            ) from error
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise StackError(
                f"the ledger at {without_password(url)} cannot be used"
                f" ({hide_password(str(error).splitlines()[0], url)[:160]})",
                "check ledger.url, and that the database is up",
            ) from error

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self, model: str) -> Iterator[Connection]:
        """One after the other for a model: what is read inside stays true until it is written.

        SQLite admits one writer at a time (BEGIN IMMEDIATE); Postgres takes a lock on the
        model's name until the transaction ends.
        """
        with self._engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(hashtext(:model))"), {"model": model}
                )
            yield connection


def now() -> datetime:
    return datetime.now(UTC)


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _settle(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say when a transaction begins
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and then finds somebody else writing would fail.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
