"""The ledger: one claim a request, whoever asks, however often, whatever died."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psutil
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text, update

from data_contracts.errors import StackError
from data_contracts.process_identity import ProcessIdentity
from data_contracts.snapshots import RowAccount, Snapshot
from data_contracts.workspace import Workspace
from tasks.evaluate import regression
from tasks.ledger import episodes, leases, migrations, requests
from tasks.ledger.database import Ledger, LedgerSettings, database_clock, metadata, now
from tasks.ledger.episodes import CountedRecords, EpisodeSettings, JudgedWindow, Outcome
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


def elsewhere(**changes: str) -> dict[str, str]:
    """This process as one of another machine, boot or container would have written it."""
    process = ProcessIdentity.current().model_copy(update=changes)
    return {"host": process.host, "process": str(process)}


# On another machine, after a reboot, in another container of this machine, and as 0.1.0 wrote it:
# with this host's name, and an id that nobody has here.
ELSEWHERE: list[dict[str, str]] = [
    elsewhere(host="elsewhere"),
    elsewhere(boot="7f2c11aa-0000-4000-8000-000000000000"),
    elsewhere(namespace="4026539999-4026531834"),
    {"host": ProcessIdentity.current().host, "process": "4194303:1764000000.0"},
]


@pytest.mark.parametrize("holder", ELSEWHERE)
def test_a_heartbeat_elsewhere_keeps_the_lease_and_silence_loses_it(
    ledger: Ledger, holder: dict[str, str]
) -> None:
    request = ask(ledger)
    held(ledger, request)
    with ledger.transaction(MODEL) as connection:
        heard = {**holder, "seen_at": now()}
        connection.execute(update(leases.leases).values(heard))
    assert not requests.due(ledger, MODEL, LIMITS)
    assert isinstance(claim(ledger, request), Refusal)
    with ledger.transaction(MODEL) as connection:
        silent = now() - timedelta(seconds=LIMITS.stale_seconds + 1)
        connection.execute(update(leases.leases).values(seen_at=silent))
    assert [one.id for one in requests.due(ledger, MODEL, LIMITS)] == [request.id]


def test_a_clock_that_is_set_takes_no_live_runs_lease(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NTP moved the clock by an hour: start times that are told by the clock moved with it."""
    request = ask(ledger)
    mine = held(ledger, request)
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
    later = now() + timedelta(hours=1)
    for module in (leases, requests):
        monkeypatch.setattr(module, "now", lambda: later, raising=False)
    assert not requests.due(ledger, MODEL, LIMITS)
    leases.require(ledger, MODEL, mine.token)


def test_heartbeats_go_by_the_databases_clock(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that looks is an hour ahead of the one that runs."""
    request = ask(ledger)
    mine = held(ledger, request)
    with ledger.transaction(MODEL) as connection:
        connection.execute(update(leases.leases).values(ELSEWHERE[0]))
    ahead = now() + timedelta(hours=1)
    for module in (leases, requests):
        monkeypatch.setattr(module, "now", lambda: ahead, raising=False)
    assert not requests.due(ledger, MODEL, LIMITS)
    leases.require(ledger, MODEL, mine.token)


def test_a_beat_is_written_by_the_databases_clock(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = held(ledger, ask(ledger))
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)

    def read(what: Any) -> Any:
        with ledger.transaction(MODEL) as connection:
            return connection.execute(select(what)).scalar_one()

    before = read(database_clock())
    assert abs(before - now()) < timedelta(seconds=60)
    with leases.heartbeat(ledger, MODEL, mine.token):
        deadline = time.monotonic() + 20
        while read(leases.leases.c.seen_at) <= before:
            assert time.monotonic() < deadline
    assert before < read(leases.leases.c.seen_at) <= read(database_clock())


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


def count(
    ledger: Ledger, window: JudgedWindow, digest: bytes | None = None, key: str = "k"
) -> Outcome:
    digests = [(digest or window.id.encode().ljust(16), window.start)]
    counted = CountedRecords(digests, key=key, forget_before=0)
    return episodes.count_window(ledger, window, counted, EpisodeSettings(), reason="different")


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


def test_with_another_key_nothing_is_counted_twice(ledger: Ledger) -> None:
    assert episodes.take_key(ledger, MODEL, "first") is None
    assert episodes.take_key(ledger, MODEL, "first") is None
    assert count(ledger, judged(0, "drift"), key="first").counted
    known = b"w0".ljust(16)
    assert episodes.known(ledger, MODEL, [known]) == {known}
    # The key is lost: what it named says nothing any more, and the past is taken for counted.
    assert episodes.take_key(ledger, MODEL, "second") == judged(0, "drift").end
    assert episodes.known(ledger, MODEL, [known]) == set()
    # One that looked under the first key counts nothing any more.
    assert not count(ledger, judged(1, "drift"), key="first").counted
    assert not requests.listing(ledger, MODEL)
    assert count(ledger, judged(1, "quiet"), key="second").counted
    assert episodes.take_key(ledger, MODEL, "second") == judged(0, "drift").end


def test_digests_of_before_there_were_keys_are_gone_from_the_file(workspace: Workspace) -> None:
    ledger = Ledger(LedgerSettings(), workspace)
    digest = bytes.fromhex("00112233445566778899aabbccddeeff")
    count(ledger, judged(0, "quiet"), digest)

    def files() -> bytes:
        ledger._engine.dispose()
        return b"".join(file.read_bytes() for file in workspace.home.glob("ledger.db*"))

    assert digest in files()
    assert episodes.take_key(ledger, MODEL, "first") == judged(0, "quiet").end
    assert digest not in files()


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


# -- tables through time --------------------------------------------------------------------------


def as_in_0_1_0(ledger: Ledger) -> None:
    """Make a new ledger one of Evergreen 0.1.0: its first revision, which no table names."""
    from alembic import command
    from alembic.config import Config

    with ledger._engine.begin() as connection:
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE {migrations.TABLE}"))
        config = Config()
        config.set_main_option("script_location", str(migrations.__path__[0]))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text(f"DROP TABLE {migrations.TABLE}"))


def again(ledger: Ledger, workspace: Workspace) -> Ledger:
    url = None if ledger.is_sqlite else ledger._engine.url.render_as_string(hide_password=False)
    return Ledger(LedgerSettings(url=url), workspace)


def test_the_last_revision_makes_the_tables_that_the_code_knows(ledger: Ledger) -> None:
    with ledger._engine.connect() as connection:
        names = {"version_table": migrations.TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=names)
        assert compare_metadata(context, metadata) == []
        assert migrations.current(connection) == migrations.HEAD


def test_a_ledger_of_the_first_release_is_upgraded_with_what_is_in_it(
    ledger: Ledger, workspace: Workspace
) -> None:
    as_in_0_1_0(ledger)
    home = "/data/of a team/evergreen"
    account = {"rows_in": 1, "rows_out": 1}
    snapshot = json.dumps(
        {"path": f"{home}/snapshots/window-0a", "digest": "d", "account": account}
    )
    evidence = json.dumps({"report": f"{home}/windows/m/w1/report.html", "first_window": "w1"})
    with ledger._engine.begin() as connection:
        connection.execute(
            text(
                'INSERT INTO evergreen_windows (id, model, champion, start, "end", judged_at,'
                " verdict, strong, snapshot, features, report) VALUES ('w1', 'm', '1', 0, 3600,"
                " :now, 'drift', :no, :snapshot, :features, :report)"
            ),
            {
                "now": now(),
                "no": False,
                "snapshot": snapshot,
                "features": f"{home}/windows/m/w1/features.parquet",
                "report": f"{home}/windows/m/w1/report.html",
            },
        )
        connection.execute(
            text(
                "INSERT INTO evergreen_regressions (model, at, added, by, reason, snapshot)"
                " VALUES ('m', :now, 1, 'me', 'wrong', :snapshot)"
            ),
            {"now": now(), "snapshot": snapshot},
        )
        connection.execute(
            text(
                "INSERT INTO evergreen_requests (id, model, champion, episode, trigger, state,"
                " reason, attempt, dispatches, requested_at, updated_at, compute_seconds, evidence)"
                " VALUES ('r1', 'm', '1', 'w1', 'drift', 'finished', 'x', 1, 0, :now, :now, 0, :e)"
            ),
            {"now": now(), "e": evidence},
        )
    upgraded = again(ledger, workspace)
    here = Workspace.current().home
    (window,) = episodes.judged(upgraded, "m", "1")
    assert window.features == f"{here}/windows/m/w1/features.parquet"
    assert window.report == f"{here}/windows/m/w1/report.html"
    assert window.data.path == f"{here}/snapshots/window-0a"
    assert regression.additions(upgraded, "m")[0].snapshot.path == f"{here}/snapshots/window-0a"
    request = requests.find(upgraded, "r1")
    assert request.evidence == {"report": window.report, "first_window": "w1"}
    held(upgraded, ask(upgraded))  # a process of today fits into its column
    test_the_last_revision_makes_the_tables_that_the_code_knows(upgraded)


def test_of_many_that_upgrade_at_once_all_can_use_it(ledger: Ledger, workspace: Workspace) -> None:
    as_in_0_1_0(ledger)
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: again(ledger, workspace), range(6)))
    for one in opened:
        assert requests.listing(one) == []


def test_an_upgrade_that_fails_changes_nothing(ledger: Ledger, workspace: Workspace) -> None:
    as_in_0_1_0(ledger)
    with ledger._engine.begin() as connection:  # the second revision's last steps need it
        connection.execute(text("ALTER TABLE evergreen_regressions RENAME TO moved"))
    with pytest.raises(StackError, match="evergreen_regressions"):
        again(ledger, workspace)
    with ledger._engine.connect() as connection:
        assert migrations.current(connection) == migrations.UNMARKED
        tables = inspect(connection)
        assert migrations.TABLE not in tables.get_table_names()
        columns = {one["name"]: one["type"] for one in tables.get_columns("evergreen_leases")}
        assert columns["process"].length == 60


def test_a_ledger_of_a_later_release_is_refused_in_one_line(
    ledger: Ledger, workspace: Workspace
) -> None:
    with ledger._engine.begin() as connection:
        later = f"UPDATE {migrations.TABLE} SET version_num = '0099'"  # noqa: S608
        connection.execute(text(later))
    with pytest.raises(StackError) as caught:
        again(ledger, workspace)
    assert "0099" in str(caught.value)
    assert migrations.HEAD in str(caught.value)
    assert "\n" not in str(caught.value)
