"""Addresses of databases, as users write them and as they may be shown."""

import re
from urllib.parse import unquote


def database_url(url: str) -> str:
    """The address with the driver that our extra `postgres` installs.

    SQLAlchemy 2.1 takes psycopg for `postgresql://` unless told.
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def without_password(url: str) -> str:
    """The address without user, password and query: a password may stand in any of them.

    A value without a scheme may be a password pasted by mistake, so none of it is shown.
    """
    if "://" not in url:
        return "an address without a scheme"
    return re.sub(r"//.*@", "//", url.split("?")[0], flags=re.DOTALL)


def hide_password(text: str, url: str) -> str:
    """A message about the address, without what is secret in it."""
    text = text.replace(url, without_password(url)).replace(database_url(url), "the address")
    found = re.search(r"//[^:@]*:(.*)@", url.split("?")[0], re.DOTALL)
    values = [found.group(1)] if found else []
    values += [pair.partition("=")[2] for pair in url.partition("?")[2].split("&")]
    for value in sorted({*values, *map(unquote, values)} - {""}, key=len, reverse=True):
        text = text.replace(value, "***")
    return text
