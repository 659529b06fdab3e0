"""Addresses of databases, as users write them and as they may be shown."""

import re


def database_url(url: str) -> str:
    """The address with the driver that our extra `postgres` installs.

    SQLAlchemy 2.1 takes psycopg for `postgresql://` unless told.
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url)
