"""The ledger: one claim a request, whoever asks, however often, whatever died."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update

from data_contracts.errors import StackError
from data_contracts.snapshots import RowAccount, Snapshot
from data_contracts.workspace import Workspace
from tasks.ledger import episodes, leases, requests
from tasks.ledger.database import Ledger, LedgerSettings, now
from tasks.ledger.episodes import EpisodeSettings, JudgedWindow, Outcome
from tasks.ledger.requests import Claim, LimitSettings, Refusal, Request, Trigger
from tests.postgres import Postgres, execute
from tests.postgres import postgres as postgres

LIMITS = LimitSettings(cooldown_minutes=0, grace_seconds=0, max_attempts=2)
MODEL = "m"


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, workspace: Workspace) -> Ledger:
    if request.param == "sqlite":
        return Ledger(LedgerSettings(), workspace)
    server: Postgres = request.getfixturevalue("postgres")
    execute(server, "ledger", "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return Ledger(LedgerSettings(url=server.url("ledger")), workspace)


def ask(ledger: Ledger, episode: str = "e", trigger: Trigger = "drift") -> Request:
    with ledger.transaction(MODEL) as connection:
        request, _ = requests.ask(
            connection,
            model=MODEL,
            champion="1",
            episode=episode,
            trigger=trigger,
            reason="because",
            evidence={},
        )
    return request


def claim(
    ledger: Ledger, request: Request, limits: LimitSettings = LIMITS, **more: str
) -> Claim | Refusal:
    known = {"flow_run": "run", "champion": "1", "champion_request": "", **more}
    return requests.claim(ledger, request.id, limits=limits, **known)


def held(ledger: Ledger, request: Request, limits: LimitSettings = LIMITS) -> Claim:
    found = claim(ledger, request, limits)
    assert isinstance(found, Claim), found
    return found


def states(ledger: Ledger, request: Request) -> list[str]:
    return [event.state for event in requests.story(ledger, request.id)]


def test_an_episode_is_asked_for_once(ledger: Ledger) -> None:
    assert ask(ledger).id == ask(ledger).id
    assert len(requests.listing(ledger, MODEL)) == 1


def test_of_many_claims_at_once_one_wins(ledger: Ledger) -> None:
    request = ask(ledger)
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda n: claim(ledger, request, flow_run=f"run{n}"), range(20)))
    winners = [one for one in found if isinstance(one, Claim)]
    assert len(winners) == 1
    requests.finish(ledger, winners[0], "promote", devices=2)
    assert isinstance(claim(ledger, request), Refusal)
    assert states(ledger, request) == ["requested", "started", "finished"]


def test_two_requests_of_a_model_never_run_at_once(ledger: Ledger) -> None:
    first, second = ask(ledger, "a"), ask(ledger, "b", "manual")
    mine = held(ledger, first)
    busy = claim(ledger, second)
    assert isinstance(busy, Refusal)
    assert "another retrain of 'm' is running" in busy.reason
    assert requests.find(ledger, second.id).state == "requested"
    requests.finish(ledger, mine, "keep", devices=1)
    held(ledger, second)


def test_a_run_that_died_is_asked_for_again_and_then_has_failed(ledger: Ledger) -> None:
    request = ask(ledger)
    script = (
        "import sys; from tests.test_ledger import *; from data_contracts.workspace import *;"
        "ledger = Ledger(LedgerSettings(url=sys.argv[2]), Workspace.current());"
        "held(ledger, requests.find(ledger, sys.argv[1]));"
        "os.kill(os.getpid(), 9)"
    )
    url = ledger._engine.url.render_as_string(hide_password=False)
    for attempt in (1, 2):
        subprocess.run(
            [sys.executable, "-c", script, request.id, url],
            check=False,
        )
        assert requests.find(ledger, request.id).attempt == attempt
        due = requests.due(ledger, MODEL, LIMITS)
        assert [one.id for one in due] == ([request.id] if attempt == 1 else [])
    assert requests.find(ledger, request.id).state == "failed"
    assert "died" in requests.find(ledger, request.id).reason


def test_a_run_taken_for_dead_may_not_promote(ledger: Ledger) -> None:
    request = ask(ledger)
    mine = held(ledger, request)
    leases.require(ledger, MODEL, mine.token)
    with ledger.transaction(MODEL) as connection:  # on another machine, silent for too long
        silent = now() - timedelta(seconds=LIMITS.stale_seconds + 1)
        connection.execute(update(leases.leases).values(host="elsewhere", seen_at=silent))
    again = held(ledger, request)
    with pytest.raises(StackError, match="lost its place"):
        leases.require(ledger, MODEL, mine.token)
    requests.finish(ledger, mine, "promote", devices=1)  # no longer counts
    assert requests.find(ledger, request.id).state == "started"
    requests.finish(ledger, again, "keep", devices=1)
    assert requests.find(ledger, request.id).reason == "keep"


def test_a_heartbeat_elsewhere_keeps_the_lease(ledger: Ledger) -> None:
    request = ask(ledger)
    held(ledger, request)
    with ledger.transaction(MODEL) as connection:
        connection.execute(update(leases.leases).values(host="elsewhere", seen_at=now()))
    assert not requests.due(ledger, MODEL, LIMITS)
    assert isinstance(claim(ledger, request), Refusal)


def test_an_error_that_may_pass_is_tried_again(ledger: Ledger) -> None:
    request = ask(ledger)
    requests.fail(ledger, held(ledger, request), "failed", LIMITS, devices=1, again=True)
    assert requests.find(ledger, request.id).state == "requested"
    requests.fail(ledger, held(ledger, request), "failed", LIMITS, devices=1, again=True)
    assert requests.find(ledger, request.id).state == "failed"


def test_limits_refuse_with_a_reason_and_until_when(ledger: Ledger) -> None:
    requests.finish(ledger, held(ledger, ask(ledger, "a")), "keep", devices=1)
    for limits, reason in (
        (LimitSettings(cooldown_minutes=60), "cool-down until"),
        (LimitSettings(cooldown_minutes=0, max_per_day=1), "limits.max_per_day"),
        (
            LimitSettings(cooldown_minutes=0, max_compute_hours_per_day=0),
            "limits.max_compute_hours_per_day",
        ),
        (LimitSettings(cooldown_minutes=0, max_cost_per_day=0), "limits.max_cost_per_day"),
    ):
        request = ask(ledger, reason)
        refused = claim(ledger, request, limits)
        assert isinstance(refused, Refusal)
        assert reason in refused.reason
        found = requests.find(ledger, request.id)
        assert found.state == "refused"
        assert found.retry_at is not None
        assert found.retry_at > now()
        # A person is not held back.
        by_hand = held(ledger, ask(ledger, f"hand {reason}", "manual"), limits)
        requests.finish(ledger, by_hand, "keep", devices=1)


def test_a_refusal_is_over_when_its_limit_is(ledger: Ledger) -> None:
    requests.finish(ledger, held(ledger, ask(ledger, "a")), "keep", devices=1)
    request = ask(ledger, "b")
    claim(ledger, request, LimitSettings(cooldown_minutes=60))
    assert not requests.due(ledger, MODEL, LIMITS)
    with ledger.transaction(MODEL) as connection:
        connection.execute(update(requests.requests).values(retry_at=now()))
    assert [one.id for one in requests.due(ledger, MODEL, LIMITS)] == [request.id]
    held(ledger, request)


def test_evidence_is_looked_at_again(ledger: Ledger) -> None:
    request = ask(ledger)
    gone = claim(ledger, request, champion="2")
    assert isinstance(gone, Refusal)
    assert "version 2 has become champion since" in gone.reason
    assert requests.find(ledger, request.id).retry_at is None


def test_a_run_that_died_after_promoting_has_finished(ledger: Ledger) -> None:
    request = ask(ledger)
    found = claim(ledger, request, champion="2", champion_request=request.id)
    assert isinstance(found, Refusal)
    assert requests.find(ledger, request.id).state == "finished"


def judged(number: int, verdict: str, champion: str = "1", *, strong: bool = False) -> JudgedWindow:
    snapshot = Snapshot(path="/none", digest="d", account=RowAccount(rows_in=1, rows_out=1))
    return JudgedWindow.model_validate(
        {
            "id": f"w{number}",
            "model": MODEL,
            "champion": champion,
            "start": number * 3600,
            "end": (number + 1) * 3600,
            "verdict": verdict,
            "strong": strong,
            "snapshot": snapshot.model_dump_json(),
            "features": "/none",
            "report": "/none",
        }
    )


def count(ledger: Ledger, window: JudgedWindow, digest: bytes | None = None) -> Outcome:
    records = [(digest or window.id.encode().ljust(16), window.start)]
    return episodes.count_window(
        ledger, window, records, EpisodeSettings(), forget_before=0, reason="different"
    )


def test_an_episode_opens_after_two_of_three_and_asks_once(ledger: Ledger) -> None:
    verdicts = ["drift", "quiet", "drift", "drift", "drift", "quiet", "quiet", "quiet", "quiet"]
    outcomes = [count(ledger, judged(n, verdict)) for n, verdict in enumerate(verdicts)]
    assert [outcome.opened for outcome in outcomes].index(True) == 2
    assert sum(outcome.request is not None for outcome in outcomes) == 1
    assert [outcome.closed is not None for outcome in outcomes].index(True) == 7
    request = requests.listing(ledger, MODEL)[0]
    assert [window.id for window in episodes.drifted(ledger, request)] == ["w0", "w2", "w3", "w4"]
    # It is over, so the retrain is not run any more.
    late = claim(ledger, request)
    assert isinstance(late, Refusal)
    assert "the drift is over" in late.reason


def test_one_very_strong_window_is_enough(ledger: Ledger) -> None:
    assert count(ledger, judged(0, "drift", strong=True)).opened


def test_a_new_champion_closes_what_was_open(ledger: Ledger) -> None:
    count(ledger, judged(0, "drift", strong=True))
    outcome = count(ledger, judged(1, "drift", champion="2"))
    assert outcome.closed == "version 2 is champion now"
    assert not outcome.opened  # its own episode needs its own windows
    assert count(ledger, judged(2, "drift", champion="2")).opened
    assert len(requests.listing(ledger, MODEL)) == 2


def test_two_watchers_count_a_record_once(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        windows = [judged(n, "drift") for n in range(8)]  # cut differently, of the same record
        outcomes = list(pool.map(lambda window: count(ledger, window, b"x" * 16), windows))
    assert sum(outcome.counted for outcome in outcomes) == 1


def test_old_windows_are_forgotten_but_not_those_still_needed(ledger: Ledger) -> None:
    count(ledger, judged(0, "drift", strong=True))
    assert not episodes.expired(ledger, MODEL, days=0)
    requests.finish(ledger, held(ledger, requests.listing(ledger, MODEL)[0]), "keep", devices=1)
    assert not episodes.expired(ledger, MODEL, days=1)
    (old,) = episodes.expired(ledger, MODEL, days=0)
    assert old.id == "w0"
    episodes.forget(ledger, old)
    assert not episodes.judged(ledger, MODEL, "1")


def test_a_ledger_that_cannot_be_reached_is_one_line(workspace: Workspace) -> None:
    settings = LedgerSettings(url="postgresql://evergreen:secret@127.0.0.1:1/none")
    with pytest.raises(StackError) as caught:
        Ledger(settings, workspace)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
