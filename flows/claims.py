"""A retrain's place in the ledger: claimed before it spends anything, closed however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from data_contracts.errors import EvergreenError
from flows.settings import Settings
from tasks.ledger import leases, requests
from tasks.ledger.database import Ledger
from tasks.ledger.requests import NO_CHAMPION, Claim, Refusal, Trigger
from tasks.registry import LoadedVersion
from tasks.train import default_processes


@dataclass
class Held:
    """A claimed request. Set `outcome` to the verdict in words before the block ends."""

    claim: Claim
    ledger: Ledger
    outcome: str = "came to no verdict"

    def require(self) -> None:
        """Raises StackError: this run was taken for dead; it must not change anything."""
        leases.require(self.ledger, self.claim.request.model, self.claim.token)


@contextmanager
def claiming(
    settings: Settings,
    ledger: Ledger,
    *,
    request: str | None,
    trigger: Trigger,
    champion: LoadedVersion | None,
) -> Iterator[Held | Refusal]:
    """Claim a request of the ledger, or one made here for a run that a person or a schedule starts.

    Yields:
        Held if this run may go on, Refusal if not; the ledger knows why in both cases
    """
    run = str(flow_run.get_id())
    version = champion.version.version if champion else NO_CHAMPION
    if request is None:
        with ledger.transaction(settings.name) as connection:
            asked, _ = requests.ask(
                connection,
                model=settings.name,
                champion=version,
                episode=f"{trigger}-{run}",
                trigger=trigger,
                reason=f"started by {'a person' if trigger == 'manual' else 'its schedule'}",
                evidence={},
            )
        request = asked.id
    claim = requests.claim(
        ledger,
        request,
        flow_run=run,
        champion=version,
        champion_request=champion.version.request if champion else "",
        limits=settings.limits,
    )
    if isinstance(claim, Refusal):
        yield claim
        return
    held = Held(claim, ledger)
    devices = settings.train.processes or default_processes()
    try:
        with leases.heartbeat(ledger, settings.name, claim.token):
            yield held
    except BaseException as error:
        again = error.transient if isinstance(error, EvergreenError) else not _cancelled()
        reason = f"failed: {error}" if isinstance(error, EvergreenError) else _ended_by(error)
        requests.fail(ledger, claim, reason, settings.limits, devices=devices, again=again)
        raise
    requests.finish(ledger, claim, held.outcome, devices=devices)


def _ended_by(error: BaseException) -> str:
    # A library's message may quote data: its type says enough, the log has the rest.
    return f"ended by {type(error).__name__}"


def _cancelled() -> bool:
    """Whether a person cancelled this run in Prefect: then it is not wanted again."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run.get_id())).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())
