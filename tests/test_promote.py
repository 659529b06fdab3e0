"""Promotion against a real MLflow registry: once, in order, and never over another's head."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import greenlet  # type: ignore[import-untyped]
import pytest
from sqlalchemy import Connection

from data_contracts.errors import RegistryError
from data_contracts.workspace import Workspace
from tasks import registry
from tasks.ledger import promotions, requests
from tasks.ledger.database import Ledger, LedgerSettings
from tasks.ledger.requests import Claim, LimitSettings, Refusal, Trigger
from tests.killing import Killer
from tests.postgres import Postgres
from tests.postgres import postgres as postgres
from tests.registries import BASE, Intercepted, Registry

numbers = count()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """MLflow takes seconds to make its database: once."""
    made = Workspace(home=tmp_path_factory.mktemp("registry") / "home")
    made.create()
    return made


@pytest.fixture
def models(home: Workspace) -> Registry:
    return Registry(home, f"model-{next(numbers)}")


def test_champion_and_previous_move_together(models: Registry) -> None:
    assert models.promote("first", "promote", None).champion == "1"
    assert models.promote("second", "promote", "1").previous == "1"
    assert models.aliases() == {"champion": "2", "previous": "1"}
    newest, oldest = models.history()
    assert (newest.action, newest.version, newest.before, newest.state) == (
        "promote", "2", "1", "done"
    )  # fmt: skip
    assert (newest.by, newest.reason, oldest.before) == ("a test", "because", None)
    models.check()


def test_a_challenger_that_is_kept_out_is_registered(models: Registry) -> None:
    models.promote("first", "promote", None)
    kept = models.promote("second", "keep", "1")
    assert (kept.version, kept.champion, kept.changed) == ("2", "1", False)
    assert models.aliases() == {"champion": "1", "challenger": "2"}
    promoted = models.promote("second", "promote", "1")
    assert promoted.version == "2"
    assert registry.find(models.client, models.name, "2").decision == "promote"
    models.promote("second", "unchanged", "2")
    assert registry.find(models.client, models.name, "2").decision == "promote"
    assert models.aliases() == {"champion": "2", "previous": "1"}


def test_repeating_changes_nothing(models: Registry) -> None:
    first = models.promote("first", "promote", None)
    again = models.promote("first", "promote", None)
    assert (again.version, again.changed) == (first.version, False)
    assert len(registry.versions(models.client, models.name)) == 1
    assert models.done() == [("promote", "1")]


def test_a_champion_that_changed_since_the_verdict_is_not_overthrown(models: Registry) -> None:
    models.promote("first", "promote", None)
    models.promote("second", "promote", "1")
    for stale in (None, "1"):
        with pytest.raises(RegistryError, match="changed while this challenger was judged"):
            models.promote("third", "promote", stale)
    assert models.aliases() == {"champion": "2", "previous": "1"}
    models.check()


def test_files_that_are_not_those_registered_are_refused(models: Registry) -> None:
    models.promote("first", "promote", None)
    version = registry.find(models.client, models.name, "champion")
    assert registry.load(version).base == BASE
    models.damage("1")
    with pytest.raises(RegistryError, match="not the one that was registered"):
        registry.load(version)
    with pytest.raises(RegistryError, match="no version 9"):
        registry.find(models.client, models.name, "9")


def test_a_challenger_whose_files_are_damaged_is_not_made_champion(models: Registry) -> None:
    models.promote("first", "promote", None)
    models.promote("second", "keep", "1")
    models.damage("2")
    with pytest.raises(RegistryError, match="not the one that was registered"):
        models.promote("second", "promote", "1")
    assert models.aliases() == {"champion": "1", "challenger": "2"}
    assert [entry.version for entry in models.history()] == ["1"]


def move(
    models: Registry,
    action: promotions.Change,
    version: str,
    judged_against: str | None = None,
    *,
    client: Any = None,
    ledger: Ledger | None = None,
) -> bool:
    return promotions.make_champion(
        client or models.client,
        ledger or models.ledger,
        models.name,
        version,
        action=action,
        judged_against=judged_against,
        by="a test",
        reason="because",
    )


# -- killed ----------------------------------------------------------------------------


@pytest.fixture
def killer(models: Registry) -> Iterator[Killer]:
    process = Killer(models)
    yield process
    process.end()


@pytest.mark.parametrize("kept_before", [False, True])
def test_a_promotion_is_killed_before_every_write(
    models: Registry, killer: Killer, kept_before: bool
) -> None:
    models.promote("0", "promote", None)
    moments = 0
    for step in count(1):
        champion = models.aliases()["champion"]
        name = f"{step}"
        if kept_before:  # so that it is the challenger, and registered already
            models.promote(name, "keep", champion)
        killed = killer.kill(step, "promote", name, champion)
        models.settle()
        models.check()
        again = models.promote(name, "promote", champion)
        assert (again.champion, again.previous) == (again.version, champion)
        models.check()
        assert models.done().count(("promote", again.version)) == 1
        if not killed:
            break
        moments += 1
    # Registering or tags; what is intended; two or three aliases; done.
    assert moments >= (9 if kept_before else 6)
    assert len(models.done()) == moments + 2


def cut_off(models: Registry, name: str, judged_against: str) -> None:
    """A promotion that ends when `previous` has moved and `champion` has not."""

    def die(_method: str, *arguments: str) -> None:
        if arguments[1:2] == ("champion",):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.promote(name, "promote", judged_against, client=Intercepted(models.client, die))
    assert models.aliases() == {"champion": judged_against, "previous": judged_against}
    assert models.history()[0].state == "intended"


def test_what_was_cut_off_is_carried_out_once(models: Registry) -> None:
    models.promote("first", "promote", None)
    cut_off(models, "second", "1")
    (settled,) = models.settle()
    assert (settled.version, settled.state) == ("2", "done")
    assert models.aliases() == {"champion": "2", "previous": "1"}
    models.check()


def test_a_ledger_on_postgres_knows_as_much(models: Registry, postgres: Postgres) -> None:
    models.ledger = Ledger(LedgerSettings(url=postgres.url("ledger")), models.workspace)
    models.promote("first", "promote", None)
    cut_off(models, "second", "1")
    with pytest.raises(RegistryError, match="changed while"):
        models.promote("third", "promote", "1")
    assert models.done() == [("promote", "1"), ("promote", "2")]
    models.check()


def test_what_was_cut_off_is_void_if_its_files_are_gone(models: Registry) -> None:
    models.promote("first", "promote", None)
    cut_off(models, "second", "1")
    models.damage("2")
    (settled,) = models.settle()
    assert settled.state == "void"
    assert settled.reason.startswith("because; void: the adapter of models:/")
    assert models.aliases() == {"champion": "1"}
    models.check()


def test_what_was_cut_off_is_void_if_its_version_was_deleted(models: Registry) -> None:
    models.promote("first", "promote", None)
    models.promote("second", "promote", "1")
    cut_off(models, "third", "2")
    models.client.delete_model_version(models.name, "3")
    (settled,) = models.settle()
    assert "has no version 3" in settled.reason
    assert models.aliases() == {"champion": "2", "previous": "1"}
    models.check()


def test_what_was_all_but_done_is_put_back_if_its_files_are_gone(models: Registry) -> None:
    models.promote("first", "promote", None)
    models.promote("second", "promote", "1")
    models.promote("third", "keep", "2")

    def die(method: str, *_: str) -> None:
        if method == "delete_registered_model_alias":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.promote("third", "promote", "2", client=Intercepted(models.client, die))
    assert models.aliases() == {"challenger": "3", "champion": "3", "previous": "2"}
    models.damage("3")
    models.settle()
    assert models.aliases() == {"challenger": "3", "champion": "2", "previous": "1"}
    assert models.done() == [("promote", "1"), ("promote", "2")]


def test_a_champion_chosen_after_the_crash_stays(models: Registry) -> None:
    models.promote("first", "promote", None)
    cut_off(models, "second", "1")
    models.promote("third", "keep", "1")
    models.set_alias("champion", "3")
    void, outside = models.settle()
    assert (void.version, void.state) == ("2", "void")
    assert (outside.action, outside.version, outside.before) == ("outside", "3", "1")
    assert models.aliases()["champion"] == "3"


# -- side by side ----------------------------------------------------------------------


class Turns:
    """Promoters take turns, one call of the registry each, in an order drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._here = greenlet.getcurrent()

    def pause(self, *_: Any) -> None:
        self._here.switch()

    def run(self, *promoters: Any) -> list[Any]:
        """What each came to: a result or a RegistryError."""
        outcomes: list[Any] = [None] * len(promoters)

        def play(number: int) -> None:
            try:
                outcomes[number] = promoters[number]()
            except RegistryError as error:
                outcomes[number] = error

        players = [greenlet.greenlet(play) for _ in promoters]
        started: set[int] = set()
        while going := [number for number, player in enumerate(players) if not player.dead]:
            number = self._draw.choice(going)
            players[number].switch(*([] if number in started else [number]))
            started.add(number)
        return outcomes


class Shared(Ledger):
    """All promoters are one thread here: waiting for the lock lets the one go on that has it."""

    def __init__(self, workspace: Workspace, turns: Turns) -> None:
        super().__init__(LedgerSettings(), workspace)
        self._turns, self._held = turns, False

    @contextmanager
    def transaction(self, model: str) -> Iterator[Connection]:
        self._turns.pause()
        while self._held:
            self._turns.pause()
        self._held = True
        try:
            with super().transaction(model) as connection:
                yield connection
        finally:
            self._held = False


@pytest.fixture(scope="module")
def sources(home: Workspace) -> dict[str, str]:
    """{digest: where MLflow has it} of three adapters: logged once, registered a hundred times."""
    models = Registry(home, "sources")
    found = {}
    for name in ("first", "second", "third"):
        version = models.promote(name, "keep", None).version
        entry = models.client.get_model_version("sources", version)
        found[entry.tags[registry.ADAPTER_TAG]] = entry.source
    return found


def prepared(models: Registry, name: str, sources: dict[str, str]) -> None:
    """Three versions, of which 1 is champion."""
    models.name = name
    models.client.create_registered_model(name)
    for digest, source in sources.items():
        models.client.create_model_version(name, source, tags={registry.ADAPTER_TAG: digest})
    move(models, "promote", "1")


def require_one_winner(models: Registry, outcomes: list[Any]) -> str:
    assert sum(isinstance(one, RegistryError) for one in outcomes) == 1
    assert all("changed while" in str(one) for one in outcomes if isinstance(one, RegistryError))
    winner = models.aliases()["champion"]
    assert models.aliases() == {"champion": winner, "previous": "1"}
    assert models.done() == [("promote", "1"), ("promote", winner)]
    assert models.settle() == []
    return winner


def test_of_two_promoters_in_any_order_one_wins(home: Workspace, sources: dict[str, str]) -> None:
    models, winners = Registry(home), []
    for seed in range(100):
        prepared(models, f"turns-{seed}", sources)
        turns = Turns(seed)
        client, ledger = Intercepted(models.client, turns.pause), Shared(home, turns)

        def promoter(version: str, client: Any = client, ledger: Any = ledger) -> Any:
            return lambda: move(models, "promote", version, "1", client=client, ledger=ledger)

        outcomes = turns.run(promoter("2"), promoter("3"))
        winners.append(require_one_winner(models, outcomes))
    assert 20 < winners.count("2") < 80


def test_of_promoters_at_the_same_time_one_wins(home: Workspace, sources: dict[str, str]) -> None:
    models = Registry(home)
    client = Intercepted(models.client, lambda *_: time.sleep(random.random() / 100))

    def promoted(name: str) -> Any:
        try:
            ledger = Ledger(LedgerSettings(), home)
            return models.promote(name, "promote", "1", client=client, ledger=ledger)
        except RegistryError as error:
            return error

    for attempt in range(5):
        prepared(models, f"race-{attempt}", sources)
        with ThreadPoolExecutor(2) as pool:
            require_one_winner(models, list(pool.map(promoted, ("second", "third"))))


# -- changed elsewhere -----------------------------------------------------------------


def test_a_champion_moved_in_the_registry_is_written_down(models: Registry) -> None:
    models.promote("first", "promote", None)
    models.promote("second", "promote", "1")
    models.set_alias("champion", "1")
    with pytest.raises(RegistryError, match="changed while"):
        models.promote("third", "promote", "2")
    newest = models.history()[0]
    assert (newest.action, newest.version, newest.before) == ("outside", "1", "2")
    assert models.settle() == []
    assert models.promote("third", "promote", "1").champion == "3"
    assert models.done()[2:] == [("outside", "1"), ("promote", "3")]
    models.check()


def test_a_champion_older_than_the_history_is_written_down(models: Registry) -> None:
    models.promote("first", "keep", None)
    assert models.settle() == []
    models.set_alias("champion", "1")
    (entry,) = models.settle()
    assert (entry.action, entry.version, entry.before) == ("outside", "1", None)
    assert entry.reason == "older than this history"
    models.client.delete_registered_model_alias(models.name, "champion")
    (entry,) = models.settle()
    assert (entry.version, entry.before) == (requests.NO_CHAMPION, "1")
    assert models.promote("first", "promote", None).champion == "1"
    models.check()


# -- after a rollback ------------------------------------------------------------------


def claim(models: Registry, trigger: Trigger, limits: LimitSettings) -> Claim | Refusal:
    with models.ledger.transaction(models.name) as connection:
        request, _ = requests.ask(
            connection,
            model=models.name,
            champion="1",
            episode=f"{trigger} {next(numbers)}",
            trigger=trigger,
            reason="because",
            evidence={},
        )
    found = requests.claim(
        models.ledger,
        request.id,
        flow_run="run",
        champion="1",
        champion_request="",
        limits=limits,
    )
    if isinstance(found, Claim):
        requests.finish(models.ledger, found, "keep", devices=1)
    return found


def test_what_was_taken_back_is_known(models: Registry) -> None:
    for number, name in enumerate(("first", "second", "third")):
        models.promote(name, "promote", f"{number}" if number else None)
    assert promotions.taken_back(models.ledger, models.name) == set()
    move(models, "rollback", "2", "3")
    move(models, "rollback", "1", "2")
    assert promotions.taken_back(models.ledger, models.name) == {"2", "3"}
    models.promote("third", "promote", "1")
    assert promotions.taken_back(models.ledger, models.name) == {"2"}
    models.set_alias("champion", "2")
    models.settle()
    assert promotions.taken_back(models.ledger, models.name) == set()


def test_drift_rests_after_a_rollback_and_a_person_does_not(models: Registry) -> None:
    limits = LimitSettings(cooldown_minutes=0, rest_hours_after_rollback=2)
    models.promote("first", "promote", None)
    models.promote("second", "promote", "1")
    assert isinstance(claim(models, "drift", limits), Claim)
    move(models, "rollback", "1", "2")
    for trigger in ("drift", "schedule"):
        refused = claim(models, trigger, limits)
        assert isinstance(refused, Refusal)
        assert "rest after a rollback until" in refused.reason
        at = models.history()[0].at
        assert refused.request.retry_at is not None
        assert (refused.request.retry_at - at).total_seconds() == 2 * 3600
    assert isinstance(claim(models, "manual", limits), Claim)
    rested = limits.model_copy(update={"rest_hours_after_rollback": 0})
    assert isinstance(claim(models, "drift", rested), Claim)
