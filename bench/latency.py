"""From a drift event to the retrain flow running, under what `evergreen up` serves.

    python -m bench.latency [--runs 20]

A real Prefect server, runner and automation on an empty home. The request that the events name
has finished before, so that each run looks into the ledger and ends. The last line is one JSON
object; times are in seconds.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from data_contracts.workspace import HOME_VARIABLE, Workspace
from infra.local import PrefectApi, environment, serve_deployments
from tasks import processes

PATIENCE_SECONDS = 120


def finished_request(workspace: Workspace, model: str) -> str:
    """A request in the ledger that nothing is left to do for."""
    from tasks.ledger import requests
    from tasks.ledger.database import Ledger, LedgerSettings

    ledger = Ledger(LedgerSettings(), workspace)
    with ledger.transaction(model) as connection:
        request, _ = requests.ask(
            connection,
            model=model,
            champion="0",
            episode="bench",
            trigger="drift",
            reason="benchmark",
            evidence={},
        )
    limits = requests.LimitSettings()
    known = {"flow_run": "bench", "champion": "0", "champion_request": ""}
    claim = requests.claim(ledger, request.id, limits=limits, **known)
    assert isinstance(claim, requests.Claim)
    requests.finish(ledger, claim, "benchmark", devices=1)
    return request.id


def measure(request: str) -> dict[str, float]:
    """Emit one event; seconds until its flow run was made, and until it ran."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter
    from prefect.events import emit_event

    flow = FlowFilter.model_validate({"name": {"any_": ["retrain"]}})
    with get_client(sync_client=True) as client:
        before = {run.id for run in client.read_flow_runs(flow_filter=flow)}
        emitted = datetime.now(UTC)
        emit_event(
            "evergreen.drift.detected",
            resource={"prefect.resource.id": "evergreen.model.evergreen"},
            payload={"request": request, "reason": "benchmark"},
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.2)
            new = [run for run in client.read_flow_runs(flow_filter=flow) if run.id not in before]
            run = new[0] if new else None
            if run and run.created and run.start_time and run.state and run.state.is_final():
                return {
                    "made": run.created.timestamp() - emitted.timestamp(),
                    "running": run.start_time.timestamp() - emitted.timestamp(),
                }
    raise TimeoutError("no run within two minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(home=Path(scratch) / "home")
        workspace.create()
        os.environ.update(environment(workspace) | {HOME_VARIABLE: str(workspace.home)})
        api = PrefectApi(workspace)
        with api.running():
            runner = serve_deployments(workspace, api.url, None)
            try:
                request = finished_request(workspace, "evergreen")
                found = []
                for number in range(options.runs):
                    found.append(measure(request))
                    print(number, found[-1], flush=True)
            finally:
                processes.stop(runner)
    running = sorted(one["running"] for one in found)
    result: dict[str, Any] = {
        "benchmark": "latency",
        "runs": len(found),
        "event_to_run_made_median": round(statistics.median(one["made"] for one in found), 2),
        "event_to_running_median": round(statistics.median(running), 2),
        "event_to_running_most": round(running[-1], 2),
        "ratios": {"of_the_5_second_goal": round(statistics.median(running) / 5, 2)},
        "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
