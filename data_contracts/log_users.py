"""Who a log record's user is, as a pseudonym: enough to count what one user contributes.

The id itself never leaves the row. Its HMAC under a key of the home tells users apart in this home
and says nothing of them elsewhere.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from data_contracts.home_keys import keyed_digest

# The name of the home's key, and the hexadecimal digits kept of a digest.
KEY = "users"
DIGITS = 16
# Where logs name the user. `client_id` may be an application with many users, so it comes last.
NAMES = (
    *("safety_identifier", "user", "user_id", "userId", "end_user", "end_user_id", "endUserId"),
    *("mlflow.trace.user", "enduser.id", "user.id", "client_id"),
)


def user_of(row: Mapping[str, Any], key: bytes) -> str | None:
    """The pseudonym of whoever asked; None if the row does not say.

    Args:
        row: a decoded log record.
        key: of this home.
    """
    places = list(_places(row))
    for name in NAMES:
        for place in places:
            value = place.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                content = f"{value}".encode("utf-8", "surrogatepass")
                return keyed_digest(key, content)[:DIGITS]
    return None


def _places(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What may name the user, the most telling first."""
    for place in (_mapping(row.get("request")), row):
        for found in (place, _mapping(place.get("metadata"))):
            if found:
                yield found


def _mapping(value: Any) -> Mapping[str, Any]:
    """An object, or the one that its JSON text holds; empty if it is neither."""
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}
