"""Windows that were judged, and the drift episodes they make.

An episode is one sustained departure from what a champion knows. It opens when `opens_after`
of the last `out_of` windows drifted (or one did very strongly), asks for one retrain, and
closes when the last `out_of` windows were quiet or another champion took over.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection, delete, insert, select, update

from data_contracts.snapshots import Snapshot
from data_contracts.workspace import HomePath
from tasks.drift.compare import DriftVerdict
from tasks.ledger.database import (
    Ledger,
    episodes,
    files,
    log_keys,
    now,
    requests,
    seen,
    windows,
)
from tasks.ledger.requests import Request, ask

T = TypeVar("T")


class EpisodeSettings(BaseModel):
    """When a departure is taken for more than chance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    opens_after: int = Field(default=2, ge=1, description="An episode opens after so many drifts,")
    out_of: int = Field(default=3, ge=1, description="in so many windows.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.opens_after > self.out_of:
            raise ValueError("opens_after must not be more than out_of")
        return self


class JudgedWindow(BaseModel):
    """A window that was compared with the reference.

    `snapshot` is a Snapshot as JSON, `features` and `report` are paths.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: str
    model: str
    champion: str
    start: int
    end: int
    verdict: DriftVerdict
    strong: bool
    snapshot: str
    features: HomePath
    report: HomePath

    @property
    def data(self) -> Snapshot:
        """The window's conversations, scrubbed."""
        return Snapshot.model_validate_json(self.snapshot)


class Episode(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: str
    model: str
    champion: str
    reason: str
    is_open: bool


@dataclass(frozen=True)
class CountedRecords:
    """The log records of a window.

    `digests` are (keyed digest, seconds since 1970), `key` is the fingerprint of their key.
    Records older than `forget_before` cannot come again.
    """

    digests: Sequence[tuple[bytes, int]]
    key: str
    forget_before: int


@dataclass(frozen=True)
class Outcome:
    """What a window changed.

    `counted` is False where another watcher counted (some of) its records before, or counts them
    under another key now.
    """

    counted: bool
    episode: str | None = None
    opened: bool = False
    closed: str | None = None
    request: Request | None = None


def take_key(ledger: Ledger, model: str, fingerprint: str) -> int | None:
    """From now on records are known by digests under this key.

    Digests under another one, or under none as an older Evergreen made them, tell nothing any
    more and are forgotten. So that nothing is counted twice, all records up to the end of the
    last window are then taken for counted.

    Returns:
        The moment before which that is so, seconds since 1970; None if no key was lost.
    """
    with ledger.transaction(model) as connection:
        mine = log_keys.c.model == model
        before = connection.execute(select(log_keys).where(mine)).one_or_none()
        if before is not None and before.fingerprint == fingerprint:
            return None if before.since is None else int(before.since)
        since = _counted_until(connection, model)
        if before is not None and before.since is not None:
            since = max(since or before.since, before.since)
        connection.execute(delete(seen).where(seen.c.model == model))
        connection.execute(delete(log_keys).where(mine))
        connection.execute(
            insert(log_keys).values(model=model, fingerprint=fingerprint, since=since)
        )
        return since


def _counted_until(connection: Connection, model: str) -> int | None:
    if (end := _newest(connection, model)) is not None:
        return end
    query = select(seen.c.at).where(seen.c.model == model)  # windows are over their retention
    last = connection.scalar(query.order_by(seen.c.at.desc()).limit(1))
    return None if last is None else last + 1


def known(ledger: Ledger, model: str, digests: Sequence[bytes]) -> set[bytes]:
    """Those of the records that a window has counted."""
    with ledger.transaction(model) as connection:
        return _known(connection, model, digests)


def _known(connection: Connection, model: str, digests: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for part in _parts(digests, 500):
        query = select(seen.c.digest).where(seen.c.model == model, seen.c.digest.in_(part))
        found.update(connection.scalars(query))
    return found


def newest(ledger: Ledger, model: str) -> int | None:
    """The end of the last window, seconds since 1970."""
    with ledger.transaction(model) as connection:
        return _newest(connection, model)


def _newest(connection: Connection, model: str) -> int | None:
    query = select(windows.c.end).where(windows.c.model == model)
    return connection.scalar(query.order_by(windows.c.end.desc()).limit(1))


def finished_files(ledger: Ledger, model: str) -> set[tuple[str, str]]:
    """(URI, version) of files all of whose records are counted."""
    with ledger.transaction(model) as connection:
        rows = connection.execute(select(files).where(files.c.model == model))
        return {(row.uri, row.version) for row in rows}


def finish_files(ledger: Ledger, model: str, done: Iterable[tuple[str, str]]) -> None:
    with ledger.transaction(model) as connection:
        for uri, version in done:
            mine = (files.c.model == model) & (files.c.uri == uri)
            connection.execute(delete(files).where(mine))
            connection.execute(insert(files).values(model=model, uri=uri, version=version))


def count_window(
    ledger: Ledger,
    window: JudgedWindow,
    counted: CountedRecords,
    settings: EpisodeSettings,
    *,
    reason: str,
) -> Outcome:
    """Write a judged window down with all that follows from it, in one transaction.

    Args:
        window: the window and its verdict.
        counted: its records.
        settings: when an episode opens and closes.
        reason: the verdict in words.
    """
    model, champion = window.model, window.champion
    with ledger.transaction(model) as connection:
        key = select(log_keys.c.fingerprint).where(log_keys.c.model == model)
        others = connection.scalar(key) not in (None, counted.key)
        if others or _known(connection, model, (digest for digest, _ in counted.digests)):
            return Outcome(counted=False)
        for part in _parts(counted.digests, 5000):
            connection.execute(
                insert(seen), [{"model": model, "digest": d, "at": at} for d, at in part]
            )
        too_late = seen.c.at < counted.forget_before
        connection.execute(delete(seen).where(seen.c.model == model, too_late))
        connection.execute(insert(windows).values(**window.model_dump(), judged_at=now()))
        closed = _close_others(connection, model, champion)
        recent = connection.execute(
            select(windows)
            .where(
                windows.c.model == model,
                windows.c.champion == champion,
                windows.c.verdict != "not enough data",
            )
            .order_by(windows.c.sequence.desc())
            .limit(settings.out_of)
        ).fetchall()
        drifted = [row for row in recent if row.verdict == "drift"]
        current = _open(connection, model, champion)
        if current is not None:
            if not drifted and len(recent) == settings.out_of:
                closed = f"the last {settings.out_of} windows are like the reference again"
                _close(connection, current.id, closed)
            return Outcome(True, episode=current.id, closed=closed)
        if window.verdict == "drift" and (window.strong or len(drifted) >= settings.opens_after):
            return _begin(connection, window, drifted[-1].id, len(drifted), settings, reason)
        return Outcome(True, closed=closed)


def _begin(
    connection: Connection,
    window: JudgedWindow,
    first: str,
    drifts: int,
    settings: EpisodeSettings,
    reason: str,
) -> Outcome:
    why = (
        f"{drifts} of the last {settings.out_of} windows drifted"
        if drifts >= settings.opens_after
        else "one window drifted very strongly"
    )
    connection.execute(
        insert(episodes).values(
            id=first,
            model=window.model,
            champion=window.champion,
            opened_at=now(),
            reason=f"{why}; the last: {reason}",
        )
    )
    request, _ = ask(
        connection,
        model=window.model,
        champion=window.champion,
        episode=first,
        trigger="drift",
        reason=f"{why}; the last: {reason}",
        evidence={"first_window": first, "last_window": window.id, "report": window.report},
    )
    return Outcome(True, episode=first, opened=True, request=request)


def _open(connection: Connection, model: str, champion: str) -> Episode | None:
    row = connection.execute(
        select(episodes).where(
            episodes.c.model == model,
            episodes.c.champion == champion,
            episodes.c.closed_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else _episode(row)


def _close_others(connection: Connection, model: str, champion: str) -> str | None:
    """Close what was open under another champion: this one's reference is another."""
    stale = connection.execute(
        select(episodes).where(
            episodes.c.model == model,
            episodes.c.champion != champion,
            episodes.c.closed_at.is_(None),
        )
    ).fetchall()
    reason = f"version {champion} is champion now"
    for row in stale:
        _close(connection, row.id, reason)
    return reason if stale else None


def _close(connection: Connection, identifier: str, reason: str) -> None:
    connection.execute(
        update(episodes)
        .where(episodes.c.id == identifier)
        .values(closed_at=now(), reason=episodes.c.reason + f"; closed: {reason}")
    )


def listing(ledger: Ledger, model: str) -> list[Episode]:
    """All episodes of a model, the newest first."""
    with ledger.transaction(model) as connection:
        rows = connection.execute(
            select(episodes).where(episodes.c.model == model).order_by(episodes.c.opened_at.desc())
        )
        return [_episode(row) for row in rows]


def _episode(row: Any) -> Episode:
    return Episode.model_validate({**row._mapping, "is_open": row.closed_at is None})


def judged(ledger: Ledger, model: str, champion: str) -> list[JudgedWindow]:
    """All windows judged against a champion, in order."""
    with ledger.transaction(model) as connection:
        rows = connection.execute(
            select(windows)
            .where(windows.c.model == model, windows.c.champion == champion)
            .order_by(windows.c.sequence)
        )
        return [JudgedWindow.model_validate(row) for row in rows]


def drifted(ledger: Ledger, request: Request) -> list[JudgedWindow]:
    """The windows that a request is about: those that drifted, from its episode's first on."""
    found = judged(ledger, request.model, request.champion)
    ids = [window.id for window in found]
    first = ids.index(request.episode) if request.episode in ids else 0
    return [window for window in found[first:] if window.verdict == "drift"]


def expired(ledger: Ledger, model: str, days: float) -> list[JudgedWindow]:
    """Windows that were judged more than `days` ago.

    Those of a champion whose retrain has not come to an end are still needed. One that was refused
    for good has.
    """
    with ledger.transaction(model) as connection:
        refused_for_now = (requests.c.state == "refused") & requests.c.retry_at.is_not(None)
        waiting = connection.scalars(
            select(requests.c.champion).where(
                requests.c.model == model,
                requests.c.state.in_(["requested", "started"]) | refused_for_now,
            )
        ).all()
        old = (windows.c.model == model) & (windows.c.judged_at < now() - timedelta(days=days))
        rows = connection.execute(select(windows).where(old, windows.c.champion.not_in(waiting)))
        return [JudgedWindow.model_validate(row) for row in rows]


def every_window(ledger: Ledger) -> list[JudgedWindow]:
    """All windows of all models."""
    with ledger.transaction("") as connection:
        return [JudgedWindow.model_validate(row) for row in connection.execute(select(windows))]


def forget(ledger: Ledger, window: JudgedWindow) -> None:
    """Take a window out of the ledger; its files are gone before, or nobody would find them."""
    with ledger.transaction(window.model) as connection:
        connection.execute(
            delete(windows).where(windows.c.model == window.model, windows.c.id == window.id)
        )


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
