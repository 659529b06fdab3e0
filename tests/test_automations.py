"""The automations on a real Prefect server: what people are told, and of what."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from tasks.notify import NotifySettings

PATIENCE_SECONDS = 60


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(URL, what was posted there)"""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            """Not to the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", posted
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def register(prefect_api: str) -> Iterator[Callable[..., None]]:
    """Registers the automations for deployments that nobody serves; removes them afterwards."""
    from flows import automations
    from flows.deployments import deployments, take_over
    from flows.settings import Settings

    names: list[str] = []

    def registered(settings: NotifySettings) -> None:
        served = {one.name: take_over(one) for one in deployments(Settings())}
        every = timedelta(seconds=4)  # three of them are the shortest that Prefect waits for
        names.extend(automations.register(served, settings, every))

    yield registered
    for name in set(names):
        automations.remove(name)


def told(posted: list[dict[str, Any]], title: str) -> list[str]:
    return [str(one.get("body")) for one in posted if one.get("title") == f"Evergreen: {title}"]


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.3)


def test_a_webhook_is_told(
    register: Callable[..., None], inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    from prefect import flow
    from prefect.events import emit_event

    url, posted = inbox
    register(NotifySettings(webhook=url))
    for event in ("evergreen.drift.detected", "evergreen.retrain.refused"):
        emit_event(
            event,
            resource={"prefect.resource.id": "evergreen.model.told"},
            payload={"request": "none", "reason": 'said "so": 5 > 3'},
        )
    # As Prefect's own: an action on a deployment that is gone.
    emit_event(
        "prefect.automation.action.failed",
        resource={"prefect.resource.id": "prefect.automation.x", "prefect.resource.name": "x"},
        payload={"reason": "no such deployment"},
    )

    @flow(name="breaks")
    def breaks() -> None:
        raise RuntimeError("broken on purpose")

    from prefect.context import tags

    with tags("evergreen"), pytest.raises(RuntimeError):
        breaks()
    wait_for(
        lambda: all(
            told(posted, title)
            for title in ("Drift", "Retrain refused", "Automation failed", "Run failed")
        )
    )
    assert told(posted, "Drift") == ['said "so": 5 > 3']
    assert told(posted, "Retrain refused") == ['said "so": 5 > 3']
    assert told(posted, "Automation failed") == ["x: no such deployment"]
    (failed,) = told(posted, "Run failed")
    assert failed.startswith("breaks ")
    assert "broken on purpose" in failed


def test_a_block_is_told(
    register: Callable[..., None], inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.events import emit_event

    with pytest.raises(ConfigError, match="no block 'custom-webhook/nowhere'"):
        register(NotifySettings(block="custom-webhook/nowhere"))
    url, posted = inbox
    CustomWebhookNotificationBlock(
        name="inbox", url=url, json_data={"title": "{{subject}}", "body": "{{body}}"}
    ).save("inbox", overwrite=True)
    register(NotifySettings(block="custom-webhook/inbox"))
    emit_event(
        "evergreen.drift.detected",
        resource={"prefect.resource.id": "evergreen.model.block"},
        payload={"request": "none", "reason": "another topic"},
    )
    wait_for(lambda: told(posted, "Drift"))
    assert told(posted, "Drift") == ["another topic"]


def test_that_nothing_is_served_is_told(
    register: Callable[..., None], inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posted = inbox
    register(NotifySettings(webhook=url))
    wait_for(lambda: told(posted, "Nothing is served"))
    assert told(posted, "Nothing is served")[0] == "no reconcile has completed within 0:00:12"


def test_where_only_the_log_is_told_silence_is_not(register: Callable[..., None]) -> None:
    from prefect.automations import Automation
    from prefect.blocks.webhook import Webhook

    from flows.automations import SILENCE, WEBHOOK_BLOCK

    register(NotifySettings(webhook="http://127.0.0.1:1/"))
    assert Automation.read(name=SILENCE)
    assert Webhook.load(WEBHOOK_BLOCK).url.get_secret_value() == "http://127.0.0.1:1/"
    register(NotifySettings())
    with pytest.raises(ValueError, match=SILENCE):
        Automation.read(name=SILENCE)
    # A secret that nobody needs any more is not kept.
    with pytest.raises(ValueError, match=WEBHOOK_BLOCK):
        Webhook.load(WEBHOOK_BLOCK)


def test_a_zombie_is_marked_crashed_and_told(
    register: Callable[..., None],
    inbox: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.states import Running

    from flows import zombies

    url, posted = inbox
    register(NotifySettings(webhook=url))

    @flow(name="silent")
    def silent() -> None:
        """Never runs: only its runs are there, as after a power cut."""

    with get_client(sync_client=True) as client:
        dead, mute = (client.create_flow_run(silent, tags=["evergreen"]) for _ in range(2))
        for run in (dead, mute):
            client.set_flow_run_state(run.id, Running())
        emit_event(
            zombies.HEARTBEAT, resource={"prefect.resource.id": f"prefect.flow-run.{dead.id}"}
        )
        for _ in range(10):
            assert not zombies.crash_zombies(client, "evergreen")  # heard of just now, or never
        monkeypatch.setattr(zombies, "SILENT", timedelta(seconds=1))
        wait_for(lambda: dead.name in zombies.crash_zombies(client, "evergreen"))
        assert client.read_flow_run(dead.id).state_name == "Crashed"
        assert client.read_flow_run(mute.id).state_name == "Running"
        client.delete_flow_run(mute.id)
    wait_for(lambda: any("heartbeat stopped" in body for body in told(posted, "Run failed")))


def test_the_log_is_told_where_nothing_is_set(
    prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    from flows.notify import notify

    notify("Drift", "another topic")
    assert any("Drift" in line and "another topic" in line for line in caplog.messages)
