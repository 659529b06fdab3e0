"""Moments in time as loggers write them, read into UTC.

| read as | written, for example |
|---|---|
| seconds since 1970, or parts of them by size | `1788250000`, `"1788250000123"` |
| ISO 8601 and its relatives | `2026-09-01T08:00:00.123456789Z`, `2026-09-01 08:00:00,123` |
| with the zone's name | `2026-09-01 08:00:00 UTC`, `2026-09-01 08:00:00.5 +0000 UTC` |
| web servers, mail, C | `01/Sep/2026:08:00:00 +0000`, `Tue, 01 Sep 2026 08:00:00 GMT` |
| digits only | `20260901080000`, `20260901T080000Z` |
| MongoDB | `{"$date": "2026-09-01T08:00:00Z"}` |

A time without a zone is UTC. Numbers between slashes or dots that could be day/month as well as
month/day are not guessed.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

from data_contracts.errors import RowRejected

# From here on a number of this size counts thousandths, millionths, billionths of a second. In
# seconds 10**11 is the year 5138; each limit is a thousand times the one before.
UNITS = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3))
LARGEST = 10**20
# A longer text is no time; without a limit a parser would read megabytes of it.
LONGEST = 64
MONTHS = 12

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?")
DIGITS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}
# What Java, Go and Apache put around the time itself.
WRAPPING = re.compile(r"^\[|\]$|\[[\w/+-]+\]$| m=[+-][\d.]+$")
OFFSET_AND_NAME = re.compile(r"([+-]\d\d:?\d\d) [A-Z]{3,5}$")
APACHE = re.compile(r"^(\d\d/\w{3}/\d{4}):(?=\d\d:\d\d)")
AMBIGUOUS = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-]\d{4}(?!\d)")

LEAP_SECOND = re.compile(r"(?<=:\d\d):60")
# Names that mean one zone everywhere, in hours; CST, IST or BST do not.
ZONES = {"UTC": 0, "UT": 0, "GMT": 0, "Z": 0, "EST": -5, "EDT": -4, "CDT": -5, "MST": -7}
ZONES |= {"MDT": -6, "PST": -8, "PDT": -7, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2}
ZONES |= {"EEST": 3, "MSK": 3, "JST": 9}


class AmbiguousDay(ValueError):
    """Two numbers of which either may be the month."""


def parse_moment(value: Any, field: str) -> str | None:
    """The moment in UTC as ISO 8601 in seconds; None for None.

    Raises:
        RowRejected: it is not a moment, or not a possible one; the rule names `field`.
    """
    if value is None:
        return None
    try:
        return read_moment(value).isoformat(timespec="seconds")
    except AmbiguousDay:
        raise RowRejected(f"{field}: day and month cannot be told apart") from None
    except (ValueError, OverflowError, OSError):
        raise RowRejected(f"{field}: not a timestamp") from None


def read_moment(value: Any) -> datetime:
    """The moment in UTC.

    Raises:
        ValueError, OverflowError or OSError: not a moment.
    """
    moment = _read(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def milliseconds_between(start: Any, end: Any) -> float | None:
    """From one moment to another, in whatever form they are; None if either is none."""
    try:
        return 1000 * (read_moment(end) - read_moment(start)).total_seconds()
    except (ValueError, OverflowError, OSError):
        return None


def _read(value: Any) -> datetime:
    if isinstance(value, Mapping) and len(value) == 1:
        return _read(value.get("$date", value.get("$numberLong")))
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    raise ValueError("neither a number nor text")


def _from_number(number: int | float) -> datetime:
    if not -LARGEST < number < LARGEST or math.isnan(number):
        raise ValueError("out of range")
    for least, unit in UNITS:
        if abs(number) >= least:
            seconds, rest = divmod(number, unit)
            micros = timedelta(microseconds=rest * 10**6 // unit)
            return datetime.fromtimestamp(seconds, UTC) + micros
    return datetime.fromtimestamp(number, UTC)


def _from_text(text: str) -> datetime:
    if len(text) > LONGEST:
        raise ValueError("too long")
    text = LEAP_SECOND.sub(":59", WRAPPING.sub("", text.strip()).strip())
    if NUMBER.fullmatch(text):
        if text.isdecimal() and len(text) in DIGITS and text[:2] in ("19", "20"):
            return datetime.strptime(text, DIGITS[len(text)]).replace(tzinfo=UTC)
        return _from_number(int(text) if text.isdecimal() else float(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _from_words(text)


def _from_words(text: str) -> datetime:
    """What only a lenient parser reads; it must name a whole day."""
    from dateutil import parser

    text = APACHE.sub(r"\1 ", OFFSET_AND_NAME.sub(r"\1", text))
    if found := AMBIGUOUS.search(text):
        one, other = int(found[1]), int(found[2])
        if one != other and max(one, other) <= MONTHS:
            raise AmbiguousDay
    # It takes from a default what a text does not say: here from two that have nothing in common.
    defaults = datetime(2001, 2, 3), datetime(2012, 11, 10)
    moments: list[datetime] = [parser.parse(text, default=d, tzinfos=_zone) for d in defaults]
    if moments[0] != moments[1]:
        raise ValueError("not a whole day")
    return moments[0]


def _zone(name: str | None, offset: int | None) -> tzinfo | None:
    if offset is not None:
        return timezone(timedelta(seconds=offset))
    if name is None:
        return None
    if name not in ZONES:
        raise ValueError("a zone that has no fixed meaning")
    return timezone(timedelta(hours=ZONES[name]))
