"""The ledger's tables through time: Alembic revisions, applied forward on SQLite and Postgres.

A revision is a file in `versions/`. A new one also raises `data_contracts.home_format.FORMAT`,
so that a home is copied before it is changed.
"""

from importlib import resources

from sqlalchemy import Connection, inspect, text

HEAD = "0003"
TABLE = "evergreen_revision"
# Ledgers of Evergreen 0.1.0 have the first revision's tables and do not say so.
UNMARKED = "0001"


class UnknownRevision(Exception):
    """The ledger is of a revision that this Evergreen does not know: a later one made it."""

    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


def upgrade(connection: Connection) -> bool:
    """Bring the tables to HEAD, in the caller's transaction; True if anything changed.

    Raises:
        UnknownRevision: a later Evergreen has upgraded them.
    """
    revision = current(connection)
    if revision == HEAD:
        return False
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(resources.files(__name__)))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    if revision is not None and revision not in {one.revision for one in scripts.walk_revisions()}:
        raise UnknownRevision(revision)
    if revision == UNMARKED and TABLE not in inspect(connection).get_table_names():
        command.stamp(config, UNMARKED)
    command.upgrade(config, HEAD)
    return True


def current(connection: Connection) -> str | None:
    """The revision of the tables; None if there are none yet."""
    tables = inspect(connection).get_table_names()
    if TABLE not in tables:
        return UNMARKED if "evergreen_requests" in tables else None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {TABLE}"))  # noqa: S608
    return revision
