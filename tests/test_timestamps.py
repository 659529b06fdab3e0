"""Moments in time in the forms that loggers write, and what is no moment."""

from datetime import UTC, date, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import RowRejected
from data_contracts.timestamps import milliseconds_between, parse_moment

EIGHT = "2026-09-01T08:00:00+00:00"


@pytest.mark.parametrize(
    "written",
    [
        1788249600,
        1788249600.9,
        1788249600123,
        1788249600123456,
        1788249600123456789,
        "1788249600",
        "1788249600.123",
        "1788249600123",
        "1788249600123456789",
        "1.7882496e9",
        "2026-09-01T08:00:00Z",
        "2026-09-01T08:00:00.123456789Z",
        "2026-09-01T10:00:00+02:00",
        "2026-09-01T10:00:00+0200",
        "2026-09-01T10:00:00.5+02:00[Europe/Oslo]",
        "2026-09-01 08:00:00,123",
        "2026-09-01 08:00:00.123",
        "2026-09-01 08:00:00 UTC",
        "2026-09-01 10:00:00 CEST",
        "2026-09-01 03:00:00 -0500",
        "2026-09-01 10:00:00.123456789 +0200 CEST m=+0.000012",
        "2026/09/01 08:00:00",
        "20260901T080000Z",
        "20260901080000",
        "[01/Sep/2026:10:00:00 +0200]",
        "01/Sep/2026:08:00:00 +0000",
        "Tue, 01 Sep 2026 08:00:00 GMT",
        "Tue Sep  1 08:00:00 2026",
        "Tue Sep  1 08:00:00 UTC 2026",
        "Sep 1, 2026, 1:00:00 AM PDT",
        " 2026-09-01T08:00:00Z ",
        {"$date": "2026-09-01T08:00:00Z"},
        {"$date": {"$numberLong": "1788249600000"}},
        datetime(2026, 9, 1, 8, tzinfo=UTC),
        pd.Timestamp("2026-09-01 08:00:00"),
    ],
)
def test_one_moment_in_many_forms(written: object) -> None:
    assert parse_moment(written, "t") == EIGHT


def test_days_and_leap_seconds() -> None:
    assert parse_moment(date(2026, 9, 1), "t") == "2026-09-01T00:00:00+00:00"
    assert parse_moment("20260901", "t") == "2026-09-01T00:00:00+00:00"
    assert parse_moment("31/12/2026 23:00", "t") == "2026-12-31T23:00:00+00:00"
    assert parse_moment("2016-12-31T23:59:60Z", "t") == "2016-12-31T23:59:59+00:00"
    assert parse_moment(None, "t") is None


@pytest.mark.parametrize(
    "written",
    [
        *("", "soon", "May", "Sep 2026", "12:30", "2026-13-45", "2026-02-30", "9" * 60, "1e400"),
        *("2026-09-01 08:00:00 IST", "0001-01-01T00:00:00+14:00", "2026-09-01" + " " * 99 + "x"),
        *(True, [], {}, {"a": 1}, float("nan"), float("inf"), 10**400, -(10**30), pd.NaT),
    ],
)
def test_no_moment(written: object) -> None:
    with pytest.raises(RowRejected) as rejected:
        parse_moment(written, "t")
    assert rejected.value.rule == "t: not a timestamp"
    assert rejected.value.__cause__ is None


def test_a_day_that_could_be_another_is_not_guessed() -> None:
    for written in ("01/09/2026 08:00:00", "09.01.2026", "1-9-2026 08:00"):
        with pytest.raises(RowRejected, match="day and month cannot be told apart"):
            parse_moment(written, "t")
    assert parse_moment("09/09/2026 08:00:00", "t") == "2026-09-09T08:00:00+00:00"


def test_between_moments_of_different_forms() -> None:
    start = 1788249600_000_000_000
    assert milliseconds_between(start, "2026-09-01T08:00:00.250Z") == 250.0
    assert milliseconds_between(start, start + 1_500_000) == 1.5
    assert milliseconds_between(1788249600.0, 1788249601.5) == 1500.0
    for broken in (None, "soon", 10**400, {}):
        assert milliseconds_between(start, broken) is None


@given(
    st.text(max_size=80)
    | st.integers()
    | st.floats()
    | st.text(alphabet="0123456789-:./TZ+ ", max_size=40)
)
def test_anything_is_a_moment_or_rejected(written: object) -> None:
    try:
        moment = parse_moment(written, "t")
    except RowRejected as rejected:
        assert rejected.rule.startswith("t: ")
    else:
        assert moment is not None
        assert datetime.fromisoformat(moment).tzinfo == UTC
