"""Approval: a person says yes before a challenger becomes champion.

The flow run pauses, it does not suspend: its process lives on, and with it the thread that
keeps its place in the ledger; and a run that a person started from a terminal has no
deployment that could start it again. A run whose process is killed while it waits comes
back from the cache when it is tried again, and asks again.

Prefect's `pause_flow_run` fails the run when the time is over, and waits on when the run is
cancelled. So the waiting is done here. The server settles who was first, a person or the clock:
when the time is over the run answers itself, the way a person would.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.input import Keyset, RunInput, keyset_from_paused_state
from prefect.runtime import flow_run
from prefect.states import Cancelled, Paused
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import StackError
from flows.events import announce_wait
from tasks.decide import Verdict
from tasks.promote import Mode, PromoteSettings

LATEST = "latest"
# Marks our pauses among others.
KEY = "evergreen-approval"
SEE_WAITING = "`evergreen models waiting` lists the runs that wait"
POLL_SECONDS = 1.0
# The server fails a run that waits for longer than it was told: then our own time is long over.
MARGIN = timedelta(hours=1)
# A runner stops the process of a run that is cancelled; of one from a terminal nobody does.
STOP = timedelta(seconds=15)


class Answer(RunInput):
    """What a person answers. The Prefect UI makes a form of it."""

    approve: bool = Field(
        default=False, description="On: this challenger becomes champion. Off: it is rejected."
    )
    name: str = Field(min_length=1, description="Who you are; kept with the version.")
    comment: str = Field(default="", description="Why; kept with the version.")


NOBODY = Answer(name="nobody", comment="there was no answer in time")


class Approval(BaseModel):
    """Whether the challenger may be promoted, and who says so."""

    model_config = ConfigDict(frozen=True)

    needed: bool
    approved: bool
    by: str
    comment: str
    at: datetime | None
    how: Literal["auto", "person", "time-out"]

    @classmethod
    def automatic(cls) -> "Approval":
        """Nobody has to be asked."""
        return cls(needed=False, approved=True, by="", comment="", at=None, how="auto")


class Waiting(BaseModel):
    """A flow run that waits for an answer."""

    model_config = ConfigDict(frozen=True)

    name: str
    id: UUID
    since: datetime
    model: str
    reason: str


def mode_of(settings: PromoteSettings, *, is_steered: bool) -> Mode:
    """Who promotes: as the settings say; by default a person where there is a risk, if users had a
    say in what was learnt."""
    return settings.approval or ("manual-above-risk" if is_steered else "auto")


def is_needed(verdict: Verdict, mode: Mode) -> bool:
    """Whether a person has to approve this promotion.

    Above risk is a challenger that failed a gate that only warns, and a first champion.
    """
    if verdict.decision != "promote" or mode == "auto":
        return False
    return mode == "manual" or bool(verdict.warnings) or verdict.bar == "base"


def apply(verdict: Verdict, approval: Approval) -> Verdict:
    """The verdict after the answer: without approval the champion is kept."""
    if not approval.needed:
        return verdict
    said = f"{approval.by}: {approval.comment}" if approval.comment else approval.by
    if approval.approved:
        return verdict.model_copy(update={"reason": f"{verdict.reason}; approved by {said}"})
    why = approval.comment if approval.how == "time-out" else f"rejected by {said}"
    return verdict.model_copy(update={"decision": "keep", "reason": f"{why}; {verdict.reason}"})


def ask(
    verdict: Verdict, summary_markdown: str, settings: PromoteSettings, *, model: str
) -> Approval:
    """Let the flow run wait until a person has answered, or the time is over: that rejects.

    Args:
        verdict: what is to be approved.
        summary_markdown: what the person should know; becomes the artifact `approval`.
        settings: how long to wait.
        model: name of the registered model.

    Raises:
        StackError: the run was cancelled while it waited, or Prefect does not let it wait.
    """
    create_markdown_artifact(
        summary_markdown, key="approval", description="What a person is asked to approve"
    )
    hours = settings.approval_hours
    until = datetime.now(UTC) + timedelta(hours=hours)
    run = UUID(flow_run.get_id())
    form = Answer.with_initial_data(description=question(verdict, model))
    with get_client(sync_client=True) as client:
        keyset = _pause(client, run, form, f"{model}: {verdict.reason}", until)
        announce_wait(model, str(run), verdict.reason)
        get_run_logger().info(
            "waits for approval until %s: `evergreen models approve %s` (or reject), or Resume in"
            " the Prefect UI: %s",
            until.strftime("%Y-%m-%d %H:%M UTC"),
            flow_run.get_name(),
            flow_run.get_flow_run_ui_url(),
        )
        given = _answer_to(client, run, form, keyset, until)
    timed_out = given.model_dump() == NOBODY.model_dump()
    return Approval(
        needed=True,
        approved=given.approve,
        by="" if timed_out else given.name,
        comment=f"nobody approved within {hours:g} hours" if timed_out else given.comment,
        at=datetime.now(UTC),
        how="time-out" if timed_out else "person",
    )


def question(verdict: Verdict, model: str) -> str:
    """What stands above the form: what speaks for the challenger, and what warns of it."""
    passed = sum(gate.status == "passed" for gate in verdict.gates)
    unknown = sum(gate.status == "not measured" for gate in verdict.gates)
    lines = [
        f"Make this challenger of `{model}` champion, in place of the {verdict.bar}?",
        "",
        f"- **speaks for it**: {verdict.reason}",
        *(f"- **speaks against it**: {gate.reason}" for gate in verdict.warnings),
        f"- {passed} of {len(verdict.gates)} gates passed, {unknown} could not be measured;"
        " the artifact `approval` has all of them",
    ]
    return "\n".join(lines)


def _pause(
    client: SyncPrefectClient, run: UUID, form: type[Answer], message: str, until: datetime
) -> Keyset:
    """Say that the run waits. A new key each time: an answer is never taken for another one's."""
    state: State[Any] = Paused(
        message=message,
        pause_key=f"{KEY}-{uuid4().hex}",
        pause_expiration_time=until + MARGIN,
    )
    keyset = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = cast(dict[str, str], keyset)
    form.save(keyset, run)  # before anyone can see that the run waits
    result = client.set_flow_run_state(run, state)
    if result.status != SetStateStatus.ACCEPT:
        raise StackError(f"Prefect does not let this run wait: {_why(result)}", "start it again")
    return keyset


def _answer_to(
    client: SyncPrefectClient, run: UUID, form: type[Answer], keyset: Keyset, until: datetime
) -> Answer:
    while True:
        try:
            state = client.read_flow_run(run).state
            if state is not None and state.is_running():
                # Prefect's functions serve sync and async callers; we are sync.
                return cast(Answer, form.load(keyset, run))
            if state is None or not state.is_paused():
                _require_alive(client, run, state)
            elif datetime.now(UTC) >= until:
                client.resume_flow_run(run, NOBODY.model_dump())
                continue
        except httpx.HTTPError:  # a server that is away now may be back later
            if datetime.now(UTC) >= until + MARGIN:
                raise
        time.sleep(POLL_SECONDS)


def _require_alive(client: SyncPrefectClient, run: UUID, state: State[Any] | None) -> None:
    """Raises StackError: a person ended this run, and no runner has stopped its process."""
    if state is not None and state.is_cancelling():
        if datetime.now(UTC) < state.timestamp + STOP:
            return
        # Prefect lets nothing else follow, and nobody else would say that the run has ended.
        gone: State[Any] = Cancelled()
        state = client.set_flow_run_state(run, gone).state
    raise StackError(
        f"this run was {_state(state)} while it waited for approval",
        "nothing was promoted; retrain again if that was not meant",
    )


def waiting() -> list[Waiting]:
    """The runs that wait for an answer, the latest first."""
    paused = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
    with get_client(sync_client=True) as client:
        found = [_waiting(run) for run in client.read_flow_runs(flow_run_filter=paused)]
    return sorted(filter(None, found), key=lambda one: one.since, reverse=True)


def answer(run: str, *, approve: bool, name: str, comment: str = "") -> Waiting:
    """Answer for a person.

    Args:
        run: id or name of a flow run, or `latest` for the one that waits now.
        approve: whether the challenger becomes champion.
        name: who answers.
        comment: why.

    Returns:
        the run that waited

    Raises:
        StackError: there is no such run, or it does not wait.
    """
    with get_client(sync_client=True) as client:
        one = _find(client, run)
        given = Answer(approve=approve, name=name, comment=comment)
        result = client.resume_flow_run(one.id, given.model_dump())
    if result.status != SetStateStatus.ACCEPT:
        raise StackError(f"{one.name} cannot be answered: {_why(result)}", SEE_WAITING)
    return one


def _find(client: SyncPrefectClient, run: str) -> Waiting:
    if run == LATEST:
        if not (all_waiting := waiting()):
            raise StackError(
                "no run waits for approval", "a retrain waits if promote.approval says so"
            )
        return all_waiting[0]
    found = _flow_run(client, run)
    if found is None:
        raise StackError(f"there is no flow run {run!r}", SEE_WAITING)
    one = _waiting(found)
    if one is None:
        raise StackError(
            f"flow run {found.name} does not wait for approval: it is {_state(found.state)}",
            SEE_WAITING,
        )
    return one


def _flow_run(client: SyncPrefectClient, run: str) -> FlowRun | None:
    """By its id or name; of several of a name, one that waits."""
    try:
        return client.read_flow_run(UUID(run))
    except ObjectNotFound:
        return None
    except ValueError:
        named = FlowRunFilter.model_validate({"name": {"any_": [run]}})
        found = client.read_flow_runs(flow_run_filter=named)
        return next(filter(_waiting, found), next(iter(found), None))


def _state(state: State[Any] | None) -> str:
    name = state.name if state is not None else None
    return name or "in no state"


def _why(result: OrchestrationResult[Any]) -> str:
    return getattr(result.details, "reason", None) or "it gives no reason"


def _waiting(run: FlowRun) -> Waiting | None:
    state = run.state
    if state is None or not state.is_paused():
        return None
    if not (state.state_details.pause_key or "").startswith(KEY):
        return None
    # A model's name has no colon.
    model, _, reason = (state.message or "").partition(": ")
    return Waiting(name=run.name, id=run.id, since=state.timestamp, model=model, reason=reason)
