"""Rolling back: to a version that answers or not at all, by a person or an alarm, and told."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_contracts.errors import EvergreenError, RegistryError
from data_contracts.workspace import Workspace
from flows.settings import Settings
from tasks import notify
from tasks.promote import PromoteSettings, Promotion, rollback
from tests import authorized
from tests.killing import Killer
from tests.registries import Registry, real_adapter, real_base

numbers = count()
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def home(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(home=tmp_path_factory.mktemp("registry") / "home")
    made.create()
    base = real_base(tiny_model, made)
    for seed, name in enumerate(("first", "second")):
        real_adapter(made, base, name, seed)
    return made


@pytest.fixture
def models(home: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Version 2 is champion, 1 was; the workspace of whatever runs here."""
    monkeypatch.setenv("EVERGREEN_HOME", str(home.home))
    made = Registry(home, f"rolled-{next(numbers)}", real_base(tiny_model, home))
    made.promote("first", "promote", None)
    made.promote("second", "promote", "1")
    return made


def roll_back(models: Registry, to: str = "previous", **more: bool) -> Promotion:
    return rollback(
        models.client, models.name, to, models.workspace, models.ledger,
        by="a test", reason="worse", **more,
    )  # fmt: skip


def test_the_previous_is_champion_and_the_champion_previous(models: Registry) -> None:
    done = roll_back(models)
    assert (done.version, done.champion, done.previous, done.changed) == ("1", "1", "2", True)
    newest = models.history()[0]
    assert (newest.action, newest.version, newest.before) == ("rollback", "1", "2")
    assert (newest.by, newest.reason) == ("a test", "worse")
    with pytest.raises(RegistryError, match="version 1 is champion already"):
        roll_back(models, "1")
    assert roll_back(models).champion == "2"  # a person who thinks better of it
    models.check()


def test_an_alarm_does_not_bring_back_what_was_taken_back(models: Registry) -> None:
    assert roll_back(models, unattended=True).champion == "1"
    with pytest.raises(RegistryError, match="version 2 was itself taken back"):
        roll_back(models, unattended=True)
    assert models.aliases() == {"champion": "1", "previous": "2"}


def test_a_damaged_version_changes_nothing(models: Registry) -> None:
    models.damage("1")
    before = models.aliases(), models.history()
    with pytest.raises(EvergreenError):
        roll_back(models)
    assert (models.aliases(), models.history()) == before


def test_a_rollback_is_killed_before_every_write(models: Registry) -> None:
    killer = Killer(models)
    try:
        moments = 0
        for step in count(1):
            champion, previous = (models.aliases()[name] for name in ("champion", "previous"))
            killed = killer.kill(step, "rollback", previous)
            models.settle()
            models.check()
            if models.aliases()["champion"] == champion:
                roll_back(models, previous)
            else:
                with pytest.raises(RegistryError, match="is champion already"):
                    roll_back(models, previous)
            assert models.aliases() == {"champion": previous, "previous": champion}
            models.check()
            moments += 1
            assert models.done()[2:].count(("rollback", previous)) == (moments + 1) // 2
            if not killed:
                break
    finally:
        killer.end()
    # Settled; intended; `previous`; `champion`; done; and one that came through.
    assert moments == 6


# -- who is told -----------------------------------------------------------------------


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[Any]]]:
    """(URL, what was posted there); the first post is not taken."""
    posted: list[Any] = []
    refused: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            (posted if refused else refused).append(content)
            self.send_response(200 if posted else 503)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            """Not to the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token-in-the-path", posted
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PAUSE_SECONDS", (0.0, 0.0))


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.3)
    return found


def events(api: str, name: str, model: str) -> list[dict[str, Any]]:
    found = authorized.post(
        f"{api}/events/filter",
        json={
            "filter": {
                "event": {"name": [name]},
                "resource": {"id": [f"evergreen.model.{model}"]},
            }
        },
    )
    return list(found.json()["events"])


def test_a_rollback_is_told_by_webhook_and_event(
    models: Registry, prefect_api: str, inbox: tuple[str, list[Any]], impatient: None
) -> None:
    from flows.rollback import rollback as flow

    url, posted = inbox
    settings = Settings(name=models.name, promote=PromoteSettings(webhook=url))
    flow(settings, reason="event llm.slo.breached", unattended=True)
    (told,) = posted
    assert told.pop("at")
    assert told == {
        "event": "evergreen.model.rolled-back",
        "model": models.name,
        "version": "1",
        "previous": "2",
        "reason": "event llm.slo.breached",
    }
    (event,) = wait_for(lambda: events(prefect_api, "evergreen.model.rolled-back", models.name))
    assert event["payload"]["version"] == "1"
    newest = models.history()[0]
    assert newest.reason == "event llm.slo.breached"
    assert len(newest.by) == 36  # the flow run's id


def test_a_webhook_that_is_down_holds_nothing_up(
    models: Registry, prefect_api: str, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    from flows.rollback import rollback as flow

    caplog.set_level(logging.DEBUG)
    url = "http://127.0.0.1:1/token-in-the-path"
    settings = Settings(name=models.name, promote=PromoteSettings(webhook=url))
    flow(settings)
    assert models.aliases() == {"champion": "1", "previous": "2"}
    assert "the webhook at 127.0.0.1 was not told: ConnectError" in caplog.messages
    assert not any("token-in-the-path" in message for message in caplog.messages)


def test_rolling_back_by_command_and_its_history(
    models: Registry, prefect_api: str, tmp_path: Path
) -> None:
    from flows.cli import models as commands

    config = tmp_path / "evergreen.yaml"
    config.write_text(yaml.safe_dump({"name": models.name}), encoding="utf-8")

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(commands.app, [*arguments, "--config", str(config), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert run("rollback", "--reason", "curt")["champion"] == "1"
    newest, *_, oldest = run("history")
    assert (newest["action"], newest["by"], newest["reason"]) == (
        "rollback", "command line", "curt"
    )  # fmt: skip
    assert oldest["version"] == "1"
    shown = CliRunner().invoke(commands.app, ["history", "--config", str(config)])
    assert "Champions of" in shown.output
    assert "curt" in shown.output


# -- an alarm --------------------------------------------------------------------------


def test_an_alarm_starts_the_deployment(prefect_api: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter
    from prefect.events import emit_event

    from flows import automations
    from flows.deployments import deployments, take_over, told

    settings = Settings(promote=PromoteSettings(rollback_on=("llm.slo.breached", "llm.other")))
    served = {one.name: take_over(one) for one in deployments(settings)}
    names = automations.register(served, *told(settings))
    rollbacks = DeploymentFilter.model_validate({"id": {"any_": [str(served["rollback"])]}})
    with get_client(sync_client=True) as client:
        try:
            assert len(automations.registered(automations.ROLL_BACK)) == 2
            for _ in range(3):  # an alarm that goes on
                emit_event("llm.slo.breached", resource={"prefect.resource.id": "llm.service.chat"})
            (run,) = wait_for(lambda: client.read_flow_runs(deployment_filter=rollbacks))
            time.sleep(3)
            assert len(client.read_flow_runs(deployment_filter=rollbacks)) == 1
            assert run.parameters["to"] == "previous"
            assert run.parameters["reason"] == "event llm.slo.breached"
            assert run.parameters["unattended"] is True
            assert "settings" in run.parameters
            client.delete_flow_run(run.id)
            fewer = Settings(promote=PromoteSettings(rollback_on=("llm.other",)))
            automations.register(served, *told(fewer))
            assert automations.registered(automations.ROLL_BACK) == [
                "evergreen: roll back on llm.other"
            ]
        finally:
            for name in names:
                automations.remove(name)


def test_the_alarm_is_quiet_for_half_an_hour() -> None:
    from uuid import uuid4

    from flows.automations import roll_back as automation

    trigger: Any = automation("llm.slo.breached", uuid4()).trigger
    assert trigger.within == timedelta(minutes=30)
    assert trigger.for_each == {"prefect.resource.id"}
