"""`evergreen demo`: the whole loop on real parts, from the first champion to the one that
drift asked for."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from data_contracts.errors import StackError
from data_contracts.workspace import Workspace
from flows.cli.drift import show_watched
from flows.cli.output import JsonFlag, bold, console, show_json, show_table
from flows.cli.pipeline import run_flow, say_what_next, show_summary
from infra.local import PrefectApi, serve_deployments

if TYPE_CHECKING:
    from flows.settings import Settings
    from tasks.ledger.requests import Event, Request

# Conversations of an hour of simulated traffic.
HOUR = 110
# The retrain that drift asks for takes a few minutes on two cores.
PATIENCE_SECONDS = 3600


def demo(as_json: JsonFlag = False) -> None:
    """The whole loop on real parts: real chats, a real model, drift, and the retrain it starts.

    Example: `evergreen demo`
    """
    started = time.monotonic()
    workspace = Workspace.current()
    api = PrefectApi(workspace)
    from flows.settings import load_settings

    with resources.as_file(resources.files("flows").joinpath("demo.yaml")) as file:
        settings = load_settings(file)
        with api.running(), deployments_served(workspace, api, file):
            report = run_flow(settings)
            if not as_json:
                show_summary(report)
            watched = watch_traffic(settings, workspace, as_json=as_json)
            request, history = wait_for_retrain(settings, workspace, as_json=as_json)
    check = check_in_a_fresh_process()
    minutes = (time.monotonic() - started) / 60
    if as_json:
        show_json(
            report.model_dump(mode="json")
            | {
                "watched": watched,
                "request": request and request.model_dump(mode="json"),
                "history": [event.model_dump(mode="json") for event in history],
                "fresh_process": check,
                "minutes": minutes,
            }
        )
        return
    show_timeline(watched, history)
    if request is not None:
        console.print(bold("The retrain that drift asked for:"), request.reason)
    console.print(
        f"The champion, loaded back in a fresh process: loss {check['measured']:.4f},"
        f" recorded {check['recorded']:.4f}. {minutes:.1f} minutes in all."
    )
    say_what_next()


@contextmanager
def deployments_served(workspace: Workspace, api: PrefectApi, config: Path) -> Iterator[None]:
    """Deployments and automations, as `evergreen up` serves them, while the block runs."""
    from tasks import processes

    runner = serve_deployments(workspace, api.url, config)
    try:
        yield
    finally:
        processes.stop(runner)


def watch_traffic(
    settings: "Settings", workspace: Workspace, *, as_json: bool
) -> list[dict[str, Any]]:
    """Traffic that the model knows, then traffic that it does not; each is watched as it comes."""
    from flows import traffic
    from flows.watch import watch

    # The simulated source: like any source, it is not ours to scrub.
    logs = workspace.home / "demo-traffic"
    foreign = traffic.technical(2 * HOUR)
    hours = (
        ("the topic it knows", traffic.familiar(HOUR), 4),
        ("another topic", foreign[:HOUR], 3),
        ("another topic", foreign[HOUR:], 2),
    )
    timeline = []
    for topic, conversations, hours_ago in hours:
        if not as_json:
            console.print(bold(f"\nAn hour of traffic: {topic}"))
        traffic.write_hour(logs, conversations, hours_ago)
        report = watch(settings, str(logs))
        if not as_json:
            show_watched(report)
        timeline += [
            {
                "window": window.start,
                "traffic": topic,
                "verdict": window.comparison.verdict,
                "why": window.comparison.reason,
            }
            for window in report.windows
        ]
    return timeline


def wait_for_retrain(
    settings: "Settings", workspace: Workspace, *, as_json: bool
) -> "tuple[Request | None, list[Event]]":
    """Wait until the request that drift made has come to its end.

    Raises:
        StackError: it has not, within PATIENCE_SECONDS.
    """
    from tasks.ledger import requests
    from tasks.ledger.database import Ledger

    ledger = Ledger(settings.ledger, workspace)
    deadline = time.monotonic() + PATIENCE_SECONDS
    told = ""
    while time.monotonic() < deadline:
        wanted = [one for one in requests.listing(ledger, settings.name) if one.trigger == "drift"]
        if not wanted:
            return None, []
        request = wanted[0]
        if request.state != told and not as_json:
            console.print(f"retrain request {request.id}: {request.state}")
            told = request.state
        if request.state in ("finished", "refused", "failed"):
            return request, requests.story(ledger, request.id)
        time.sleep(2)
    raise StackError(
        "the retrain that drift asked for has not ended",
        f"see {workspace.prefect / 'runner.log'} and `evergreen ledger`",
    )


def show_timeline(watched: list[dict[str, Any]], history: "list[Event]") -> None:
    show_table("Traffic, window by window", watched)
    show_table(
        "What became of the drift",
        [
            {"at": f"{event.at:%H:%M:%S}", "state": event.state, "why": event.reason}
            for event in history
        ],
    )


def check_in_a_fresh_process() -> dict[str, float]:
    """`evergreen models check champion --json` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "models", "check", "champion", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise typer.Exit(done.returncode)
    result: dict[str, float] = json.loads(done.stdout)
    return result
