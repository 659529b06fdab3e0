"""One retrain an episode, whatever happens: faults injected into real parts.

    python -m bench.exactly_once [--times 20] [--fault NAME ...]

A real Prefect server, runner, automation, MLflow and ledger on an empty home, and a language
model of two layers. Each time, a minute of traffic that the champion knows closes the episode
before, a minute of another topic is watched and opens one, the fault is injected, and the
retrain, which really trains, must finish exactly once: one `finished` in the ledger, and one
flow run that came to a verdict. The reconciler runs every `RECONCILE_SECONDS` in place of the
schedule's five minutes. After the first champion the bar cannot be met, so that every episode is
about the same one. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil

from data_contracts.workspace import HOME_VARIABLE, Workspace
from infra.local import Service, address, environment, free_port, log_in, prefect_server
from tasks import processes
from tests.commands import command, tiny_settings
from tests.logs import log_row, write_log
from tests.tiny import CITIES, WEATHER, conversations, make_tiny_model, write_jsonl

if TYPE_CHECKING:
    from tasks.ledger.requests import Event, Request

RECONCILE_SECONDS = 15.0
PATIENCE_SECONDS = 300.0
WINDOW = 40
# A gate that no challenger passes, so that the champion stays.
NEVER = {"name": "never", "metric": "loss", "test": "superiority", "margin": 100.0}


class Stack:
    """The parts, and what kills them."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(home=folder / "home")
        self.workspace.create()
        os.environ.update(environment(self.workspace))
        os.environ[HOME_VARIABLE] = str(self.workspace.home)
        self.port = free_port()
        log_in(self.workspace, f"{address(self.port)}/api")
        self.logs = folder / "logs"
        self.minute = int(time.time()) // 60 - 40 * 60
        self.draw = random.Random(1)
        self.config = tiny_settings(
            folder,
            make_tiny_model(folder / "model"),
            data={"sources": [str(write_jsonl(folder / "chats.jsonl", conversations(200)))]},
            watch={"min_records": 30, "window_minutes": 1, "logs": str(self.logs)},
            drift={"score_records": 10},
            episode={"opens_after": 1, "out_of": 1},
            replay={"min_new": 20},
            decide={"gates": [NEVER]},
            limits={"cooldown_minutes": 0, "max_per_day": 100_000, "grace_seconds": 10},
        )
        self.server: Service | None = None
        self.runner: subprocess.Popen[str] | None = None
        self.start_server()

    def start_server(self) -> None:
        self.server = prefect_server(self.workspace, self.port)
        self.server.start()
        self.server.wait()

    def kill_server(self) -> None:
        """Every process that listens for the API: not a chance to say goodbye."""
        self._kill("infra.guard:prefect_app")

    def start_runner(self) -> None:
        from infra.local import serve_deployments

        api = os.environ["PREFECT_API_URL"]
        self.runner = serve_deployments(self.workspace, api, self.config)

    def kill_runner(self) -> None:
        """The runner, the flow it runs, and the training below that, all at once."""
        assert self.runner is not None
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.runner.pid)
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.runner.wait()

    def _kill(self, words: str) -> None:
        for process in psutil.process_iter(["cmdline", "environ"]):
            line = " ".join(process.info["cmdline"] or [])
            ours = (process.info["environ"] or {}).get(HOME_VARIABLE) == str(self.workspace.home)
            if ours and words in line and process.pid != os.getpid():
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def stop(self) -> None:
        if self.runner is not None:
            processes.stop(self.runner)
        if self.server is not None:
            self.server.stop()

    # -- traffic ----------------------------------------------------------------------

    def write(self, kind: str) -> None:
        """The next minute of traffic: `known` or `foreign`."""
        self.minute += 1
        at = self.minute * 60
        rows = [
            log_row(
                at + n,
                *(self._known() if kind == "known" else self._foreign(n)),
                model_version="desk",
            )
            for n in range(WINDOW)
        ]
        write_log(self.logs / f"{self.minute}-{kind}.jsonl", rows)

    def _known(self) -> tuple[str, str]:
        city, weather = self.draw.choice(CITIES), self.draw.sample(WEATHER, 3)
        day = self.draw.randrange(200)
        return (
            f"how is it in {city} on day {day}?",
            f"it is {weather[0]} and {weather[1]} in {city}, and {weather[2]} by the sea.",
        )

    def _foreign(self, number: int) -> tuple[str, str]:
        error = self.draw.randrange(1000, 10_000)
        return (
            f"my printer shows error {error} on page {number}, what now?",
            f"error {error} is about paper: open tray {number} and pull it out.",
        )

    def watch(self) -> None:
        from flows.settings import load_settings
        from flows.watch import watch

        watch(load_settings(self.config))

    # -- what the ledger and Prefect say ------------------------------------------------

    def drift_requests(self) -> "list[Request]":
        from tasks.ledger import requests
        from tasks.ledger.database import Ledger, LedgerSettings

        found = requests.listing(Ledger(LedgerSettings(), self.workspace), "evergreen")
        return [one for one in found if one.trigger == "drift"]

    def story(self, request: str) -> "list[Event]":
        from tasks.ledger import requests
        from tasks.ledger.database import Ledger, LedgerSettings

        return requests.story(Ledger(LedgerSettings(), self.workspace), request)

    def runs_of(self, request: str) -> Counter[str]:
        """States of the retrain flow runs that were started for a request, by name.

        What the ledger knows for dead is `died`: Prefect takes it for running for a while more.
        """
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowFilter
        from prefect.client.schemas.sorting import FlowRunSort

        flow = FlowFilter.model_validate({"name": {"any_": ["retrain"]}})
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_filter=flow, limit=60, sort=FlowRunSort.EXPECTED_START_TIME_DESC
            )
        died = {event.flow_run for event in self.story(request) if " died " in event.reason}
        return Counter(
            "died" if str(run.id) in died and run.state_name == "Running" else str(run.state_name)
            for run in runs
            if run.parameters.get("request") == request
        )

    def enable_automation(self, *, enabled: bool) -> None:
        from prefect.automations import Automation

        automation = cast(Automation, Automation.read(name="evergreen: retrain on drift"))
        automation.enabled = enabled
        automation.update()

    def reconcile(self) -> None:
        """What the schedule does, by the deployment, and only if the last one has ended."""
        from prefect.deployments import run_deployment

        key = f"bench-{int(time.time() / RECONCILE_SECONDS)}"
        run_deployment("reconcile/reconcile", timeout=0, idempotency_key=key)


def event_again(request: str, count: int = 1) -> None:
    """The drift event, under other ids, all at once."""
    from prefect.events import emit_event

    def emit(_number: int) -> None:
        emit_event(
            "evergreen.drift.detected",
            resource={"prefect.resource.id": "evergreen.model.evergreen"},
            payload={"request": request, "reason": "the same again"},
        )

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(emit, range(count)))


# -- faults: each watches the foreign minute, and does something to what follows ------------


def twice(stack: Stack) -> None:
    stack.watch()
    event_again(stack.drift_requests()[0].id)


def ten_at_once(stack: Stack) -> None:
    stack.watch()
    event_again(stack.drift_requests()[0].id, 10)


def dropped(stack: Stack) -> None:
    stack.enable_automation(enabled=False)
    try:
        stack.watch()
        time.sleep(2)
    finally:
        stack.enable_automation(enabled=True)


def server_killed(stack: Stack) -> None:
    """Killed at any moment of the first two seconds; the event comes again after the restart."""
    stack.watch()
    time.sleep(stack.draw.uniform(0, 2))
    stack.kill_server()
    time.sleep(1)
    stack.start_server()
    event_again(stack.drift_requests()[0].id)


def two_watchers(stack: Stack) -> None:
    watchers = [
        subprocess.Popen(
            command("watch", "--config", stack.config, "--json"),
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for watcher in watchers:
        _, errors = watcher.communicate()
        if watcher.returncode != 0:
            raise RuntimeError(f"a watcher failed: {errors[-2000:]}")


def runner_killed(stack: Stack) -> None:
    """Killed at any moment of the retrain, with all that it started."""
    stack.watch()
    request = stack.drift_requests()[0].id
    wait_for(lambda: stack.drift_requests()[0].state == "started", stack, "a start")
    time.sleep(stack.draw.uniform(0, 15))
    print(f"  killed while {stack.drift_requests()[0].state}", flush=True)
    stack.kill_runner()
    stack.start_runner()
    assert stack.drift_requests()[0].id == request


FAULTS: dict[str, Callable[[Stack], None]] = {
    "event twice": twice,
    "event ten times at once": ten_at_once,
    "event dropped": dropped,
    "server killed and restarted": server_killed,
    "two watchers at once": two_watchers,
    "runner killed mid-retrain": runner_killed,
}


def wait_for(condition: Callable[[], bool], stack: Stack, what: str) -> None:
    """Wait, reconciling as the schedule would."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    reconciled = time.monotonic()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {what}; home is {stack.workspace.home}")
        if time.monotonic() - reconciled > RECONCILE_SECONDS:
            stack.reconcile()
            reconciled = time.monotonic()
        time.sleep(0.5)


def once(stack: Stack, fault: Callable[[Stack], None]) -> dict[str, Any]:
    """One episode with one fault; what became of it."""
    before = {one.id for one in stack.drift_requests()}
    stack.write("known")
    stack.watch()
    stack.write("foreign")
    started = time.monotonic()
    fault(stack)
    new = [one for one in stack.drift_requests() if one.id not in before]
    if len(new) != 1:
        return {"exactly_once": False, "why": f"{len(new)} requests for one episode"}
    identifier = new[0].id

    def settled() -> bool:
        states = stack.runs_of(identifier)
        busy = ("Scheduled", "Pending", "Running", "Late", "AwaitingRetry")
        return (
            stack.drift_requests()[0].state in ("finished", "failed", "refused")
            and not any(states[state] for state in busy)
        )  # fmt: skip

    wait_for(settled, stack, "the retrain's end")
    time.sleep(2)
    story = stack.story(identifier)
    finished = sum(event.state == "finished" for event in story)
    runs = stack.runs_of(identifier)
    return {
        "exactly_once": finished == 1 and runs["Completed"] <= 1 and story[-1].state == "finished",
        "started": sum(event.state == "started" for event in story),
        "finished": finished,
        "runs": dict(runs),
        "seconds": round(time.monotonic() - started, 1),
        "ledger": [f"{event.state}: {event.reason[:100]}" for event in story],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS))
    parser.add_argument("--home", type=Path, help="kept afterwards, to look at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.home or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        stack = Stack(folder)
        try:
            done = subprocess.run(
                command("retrain", "--config", stack.config),
                env=os.environ | {"EVERGREEN_DECIDE__MIN_IMPROVEMENT": "0"},
                check=False,
                stdout=subprocess.DEVNULL,
            )
            if done.returncode != 0:
                raise SystemExit("the first champion could not be made")
            stack.start_runner()
            results: dict[str, Any] = {}
            for name in options.fault or FAULTS:
                outcomes = []
                for number in range(options.times):
                    outcomes.append(once(stack, FAULTS[name]))
                    print(f"{name} {number}: {json.dumps(outcomes[-1])}", flush=True)
                held = sum(one["exactly_once"] for one in outcomes)
                results[name] = {
                    "times": len(outcomes),
                    "exactly_once": held,
                    "flow_runs": sum(sum(one.get("runs", {}).values()) for one in outcomes),
                    "claims": sum(one.get("started", 0) for one in outcomes),
                }
        finally:
            stack.stop()
    tried = sum(one["times"] for one in results.values())
    held = sum(one["exactly_once"] for one in results.values())
    print(
        json.dumps(
            {
                "benchmark": "exactly_once",
                "faults": results,
                "ratios": {"exactly_once": round(held / tried, 4)},
                "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
            }
        )
    )
    sys.exit(0 if held == tried else 1)


if __name__ == "__main__":
    main()
