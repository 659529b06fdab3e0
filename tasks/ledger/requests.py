"""Retrain requests: asked for once an episode, claimed by one run, explained whatever happens.

| state | means | goes on to |
|---|---|---|
| requested | somebody or something asked for it | started, refused |
| started | one run claimed it, and holds the lease | finished, failed; requested if it died |
| finished | it ran to a verdict | |
| refused | a limit or the evidence spoke against it | requested, when `retry_at` comes |
| failed | it broke, more often than it may | |

Every change is a line in the history. Any number of runs may try to claim a request,
at any time and in any order: one gets it.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, func, insert, select, update

from data_contracts.digests import digest_json
from data_contracts.errors import StackError
from data_contracts.workspace import located, stored
from tasks.ledger import leases
from tasks.ledger.database import Ledger, episodes, history, now, promotions, requests

State = Literal["requested", "started", "finished", "refused", "failed"]
Trigger = Literal["manual", "schedule", "drift"]

NO_CHAMPION = "0"


class LimitSettings(BaseModel):
    """What unattended retrains (by drift or schedule) may use. A person's are only recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cooldown_minutes: float = Field(
        default=60, ge=0, description="Least time between the ends of two unattended retrains."
    )
    max_per_day: int = Field(default=4, ge=0, description="Unattended retrains in 24 hours.")
    max_compute_hours_per_day: float | None = Field(
        default=None,
        ge=0,
        description="Device hours (GPUs, or CPU ranks, times time) of all retrains in 24 hours.",
    )
    price_per_hour: float = Field(
        default=0.0, ge=0, description="What an hour of one device costs, in your currency."
    )
    max_cost_per_day: float | None = Field(
        default=None, ge=0, description="Cost of all retrains in 24 hours, at `price_per_hour`."
    )
    rest_hours_after_rollback: float = Field(
        default=24, ge=0, description="No unattended retrain starts this soon after a rollback."
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Attempts at one request before it has failed."
    )
    stale_seconds: float = Field(
        default=90,
        ge=30,
        description="A run on another machine that was silent this long counts as dead.",
    )
    grace_seconds: float = Field(
        default=60,
        ge=0,
        description="How long the event has to start a retrain before the reconciler does.",
    )
    reconcile_minutes: float = Field(
        default=5, ge=1, description="How often the reconciler is scheduled."
    )


class Request(BaseModel):
    """One row of the ledger."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: str
    model: str
    champion: str
    episode: str
    trigger: Trigger
    state: State
    reason: str
    attempt: int
    dispatches: int
    flow_run: str | None
    requested_at: datetime
    updated_at: datetime
    started_at: datetime | None
    retry_at: datetime | None
    compute_seconds: float
    evidence: dict[str, Any]

    @classmethod
    def of(cls, row: Any) -> Self:
        evidence = {
            name: located(value) if isinstance(value, str) else value
            for name, value in json.loads(row.evidence).items()
        }
        return cls.model_validate({**row._mapping, "evidence": evidence})


class Event(BaseModel):
    """One line of a request's history."""

    model_config = ConfigDict(frozen=True)

    request: str
    at: datetime
    state: State
    reason: str
    flow_run: str | None


@dataclass(frozen=True)
class Claim:
    """A request that is ours; `token` fences off a run that lost it."""

    request: Request
    token: str


@dataclass(frozen=True)
class Refusal:
    """Why a run does not go on."""

    request: Request
    reason: str


def request_id(model: str, champion: str, episode: str) -> str:
    return digest_json([model, champion, episode])[:16]


def ask(
    connection: Connection,
    *,
    model: str,
    champion: str,
    episode: str,
    trigger: Trigger,
    reason: str,
    evidence: dict[str, Any],
) -> tuple[Request, bool]:
    """Note that a retrain is wanted; call inside a transaction of the model.

    Returns:
        (the request, whether it is new); an episode that was asked for keeps its request.
    """
    identifier = request_id(model, champion, episode)
    if (known := _find(connection, identifier)) is not None:
        return known, False
    connection.execute(
        insert(requests).values(
            id=identifier,
            model=model,
            champion=champion,
            episode=episode,
            trigger=trigger,
            state="requested",
            reason=reason,
            requested_at=now(),
            updated_at=now(),
            evidence=json.dumps(
                {
                    name: stored(value) if isinstance(value, str) else value
                    for name, value in evidence.items()
                }
            ),
        )
    )
    _note(connection, identifier, "requested", reason, None)
    return _get(connection, identifier), True


def claim(
    ledger: Ledger,
    identifier: str,
    *,
    flow_run: str,
    champion: str,
    champion_request: str,
    limits: LimitSettings,
) -> Claim | Refusal:
    """Take a request, or learn why not. Exactly one caller gets a Claim.

    Args:
        identifier: the request.
        flow_run: who asks.
        champion: the version that is champion now; a request made under another is stale.
        champion_request: the request that the champion came from, if the registry knows.
        limits: checked for unattended requests.

    Raises:
        StackError: there is no such request.
    """
    with ledger.transaction(_model_of(ledger, identifier)) as connection:
        request = _get(connection, identifier)
        release_dead(connection, request.model, limits)
        request = _get(connection, identifier)
        if request.state != "requested":
            return Refusal(request, f"{request.state} already: {request.reason}")
        if (holder := leases.holder(connection, request.model)) is not None:
            return Refusal(request, f"another retrain of {request.model!r} is running ({holder})")
        if champion_request == identifier:
            done = f"version {champion} was promoted, and then the run died"
            _change(connection, identifier, "finished", done, flow_run)
            return Refusal(_get(connection, identifier), done)
        if gone := _evidence_gone(connection, request, champion):
            _change(connection, identifier, "refused", gone, flow_run)
            return Refusal(_get(connection, identifier), gone)
        if request.trigger != "manual" and (spent := _over_limits(connection, request, limits)):
            reason, retry_at = spent
            _change(connection, identifier, "refused", reason, flow_run, retry_at=retry_at)
            return Refusal(_get(connection, identifier), reason)
        token = uuid4().hex
        leases.take(connection, request.model, token, f"{request.trigger} {identifier}")
        attempt = request.attempt + 1
        _change(
            connection,
            identifier,
            "started",
            f"attempt {attempt}",
            flow_run,
            attempt=attempt,
            flow_run_id=flow_run,
            started_at=now(),
        )
        return Claim(_get(connection, identifier), token)


def finish(ledger: Ledger, claim: Claim, reason: str, *, devices: int) -> None:
    """The run came to a verdict."""
    _end(ledger, claim, devices, ("finished", reason, None))


def fail(
    ledger: Ledger, claim: Claim, reason: str, limits: LimitSettings, *, devices: int, again: bool
) -> None:
    """The run broke; it is asked for again if that may help and attempts are left."""
    _end(ledger, claim, devices, _after_failure(claim.request, reason, limits, again=again))


def _end(
    ledger: Ledger, claim: Claim, devices: int, outcome: tuple[State, str, datetime | None]
) -> None:
    state, reason, retry_at = outcome
    request = claim.request
    with ledger.transaction(request.model) as connection:
        if not leases.release(connection, request.model, claim.token):
            return  # somebody else was told that we are dead; what we say no longer counts
        spent = _get(connection, request.id).compute_seconds
        _change(
            connection,
            request.id,
            state,
            reason,
            request.flow_run,
            retry_at=retry_at,
            compute_seconds=spent + devices * _seconds_since(request.started_at),
        )


def _after_failure(
    request: Request, reason: str, limits: LimitSettings, *, again: bool
) -> tuple[State, str, datetime | None]:
    if again and request.trigger != "manual" and request.attempt < limits.max_attempts:
        wait = timedelta(seconds=limits.grace_seconds * (2 ** (request.attempt - 1) - 1))
        return "requested", f"attempt {request.attempt} {reason}; to be tried again", now() + wait
    return "failed", f"attempt {request.attempt} {reason}", None


def release_dead(connection: Connection, model: str, limits: LimitSettings) -> list[Request]:
    """Take the lease from a run that is gone, and ask for its request again."""
    leases.drop_dead(connection, model, limits.stale_seconds)
    if leases.holder(connection, model) is not None:
        return []
    dead = [
        Request.of(row)
        for row in connection.execute(
            select(requests).where(requests.c.model == model, requests.c.state == "started")
        )
    ]
    for request in dead:
        state, reason, retry_at = _after_failure(
            request, f"died (flow run {request.flow_run})", limits, again=True
        )
        _change(connection, request.id, state, reason, request.flow_run, retry_at=retry_at)
    return dead


def due(ledger: Ledger, model: str, limits: LimitSettings) -> list[Request]:
    """What should have started and has not; what was refused for a time that is over.

    Each one returned is the caller's to dispatch: another reconciler does not get it
    within `grace_seconds`.
    """
    with ledger.transaction(model) as connection:
        release_dead(connection, model, limits)
        moment = now()
        for row in connection.execute(
            select(requests).where(
                requests.c.model == model,
                requests.c.state == "refused",
                requests.c.retry_at <= moment,
            )
        ).fetchall():
            _change(connection, row.id, "requested", "the limit is over", None, retry_at=moment)
        waiting = [
            Request.of(row)
            for row in connection.execute(
                select(requests).where(
                    requests.c.model == model,
                    requests.c.state == "requested",
                    requests.c.trigger != "manual",
                )
            )
        ]
        found = []
        for request in waiting:
            late = request.updated_at + timedelta(seconds=limits.grace_seconds)
            if moment < (request.retry_at or late):
                continue
            connection.execute(
                update(requests)
                .where(requests.c.id == request.id)
                .values(
                    dispatches=request.dispatches + 1,
                    updated_at=moment,
                    retry_at=None,
                )
            )
            _note(connection, request.id, "requested", "started by the reconciler", None)
            found.append(_get(connection, request.id))
        return found


def listing(ledger: Ledger, model: str | None = None) -> list[Request]:
    """All requests, the newest first."""
    query = select(requests).order_by(requests.c.requested_at.desc())
    if model is not None:
        query = query.where(requests.c.model == model)
    with ledger.transaction(model or "") as connection:
        return [Request.of(row) for row in connection.execute(query)]


def find(ledger: Ledger, identifier: str) -> Request:
    """Raises StackError: there is no such request."""
    with ledger.transaction("") as connection:
        return _get(connection, identifier)


def story(ledger: Ledger, identifier: str) -> list[Event]:
    """What happened to a request, in order."""
    with ledger.transaction("") as connection:
        rows = connection.execute(
            select(history).where(history.c.request == identifier).order_by(history.c.id)
        )
        return [Event.model_validate(row._mapping) for row in rows]


def note(ledger: Ledger, request: Request, reason: str, flow_run: str) -> None:
    """Add a line to the history of a request that stays as it is."""
    with ledger.transaction(request.model) as connection:
        _note(connection, request.id, request.state, reason, flow_run)


def _evidence_gone(connection: Connection, request: Request, champion: str) -> str | None:
    if request.trigger != "drift":
        return None
    if request.champion != champion:
        return (
            f"version {champion} has become champion since; the drift was measured against"
            f" version {request.champion}"
        )
    episode = connection.execute(
        select(episodes).where(episodes.c.id == request.episode)
    ).one_or_none()
    if episode is not None and episode.closed_at is not None:
        return f"the drift is over: {episode.reason}"
    return None


def _over_limits(
    connection: Connection, request: Request, limits: LimitSettings
) -> tuple[str, datetime] | None:
    """(which limit, when it is over) if a limit speaks against a retrain now."""
    rested = _rested(connection, request.model, limits)
    if now() < rested:
        return (
            f"rest after a rollback until {_clock(rested)} (limits.rest_hours_after_rollback)",
            rested,
        )
    day = timedelta(days=1)
    since = now() - day
    ran = [
        Request.of(row)
        for row in connection.execute(
            select(requests).where(
                requests.c.model == request.model,
                requests.c.id != request.id,
                requests.c.state.in_(["finished", "failed"]),
                requests.c.started_at.is_not(None),
                requests.c.updated_at >= since,
            )
        )
    ]
    unattended = [one for one in ran if one.trigger != "manual"]
    if unattended:
        last = max(one.updated_at for one in unattended)
        over = last + timedelta(minutes=limits.cooldown_minutes)
        if now() < over:
            return f"cool-down until {_clock(over)} (limits.cooldown_minutes)", over
    if len(unattended) >= limits.max_per_day:
        over = (min(one.updated_at for one in unattended) if unattended else now()) + day
        return (
            f"{len(unattended)} unattended retrains in 24 hours, no more before {_clock(over)}"
            " (limits.max_per_day)",
            over,
        )
    spent = sum(one.compute_seconds for one in ran) / 3600
    expected = spent / len(ran) if ran else 0.0
    over = (min(one.updated_at for one in ran) if ran else now()) + day
    hours = limits.max_compute_hours_per_day
    if hours is not None and (spent + expected > hours or hours == 0):
        return (
            f"{spent:.2f} device hours spent in 24 hours and about {expected:.2f} more needed,"
            f" over {hours:g}, until {_clock(over)} (limits.max_compute_hours_per_day)",
            over,
        )
    cost, price = limits.max_cost_per_day, limits.price_per_hour
    if cost is not None and ((spent + expected) * price > cost or cost == 0):
        return (
            f"{spent * price:.2f} spent in 24 hours and about {expected * price:.2f} more needed,"
            f" over {cost:g}, until {_clock(over)} (limits.max_cost_per_day)",
            over,
        )
    return None


def _rested(connection: Connection, model: str, limits: LimitSettings) -> datetime:
    """When the rest after the last rollback is over."""
    last = connection.scalar(
        select(func.max(promotions.c.at)).where(
            promotions.c.model == model,
            promotions.c.action == "rollback",
            promotions.c.state == "done",
        )
    )
    return now() if last is None else last + timedelta(hours=limits.rest_hours_after_rollback)


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _seconds_since(moment: datetime | None) -> float:
    return 0.0 if moment is None else (now() - moment).total_seconds()


def _change(
    connection: Connection,
    identifier: str,
    state: State,
    reason: str,
    flow_run: str | None,
    *,
    flow_run_id: str | None = None,
    retry_at: datetime | None = None,
    **values: Any,
) -> None:
    if flow_run_id is not None:
        values["flow_run"] = flow_run_id
    connection.execute(
        update(requests)
        .where(requests.c.id == identifier)
        .values(state=state, reason=reason, updated_at=now(), retry_at=retry_at, **values)
    )
    _note(connection, identifier, state, reason, flow_run)


def _note(
    connection: Connection, identifier: str, state: State, reason: str, flow_run: str | None
) -> None:
    connection.execute(
        insert(history).values(
            request=identifier, at=now(), state=state, reason=reason, flow_run=flow_run
        )
    )


def _model_of(ledger: Ledger, identifier: str) -> str:
    return find(ledger, identifier).model


def _find(connection: Connection, identifier: str) -> Request | None:
    row = connection.execute(select(requests).where(requests.c.id == identifier)).one_or_none()
    return None if row is None else Request.of(row)


def _get(connection: Connection, identifier: str) -> Request:
    request = _find(connection, identifier)
    if request is None:
        count = connection.execute(select(func.count()).select_from(requests)).scalar()
        raise StackError(
            f"the ledger has no request {identifier!r}",
            f"`evergreen ledger` lists the {count} there are",
        )
    return request
