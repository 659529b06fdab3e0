"""A promotion that a person approves: by command, in Prefect's own page, or not in time."""

import getpass
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from data_contracts.workspace import Workspace
from flows import approval
from flows.approval import Approval, Waiting
from tasks.promote import Mode, PromoteSettings
from tests import authorized
from tests.asking import REASON, gate, verdict
from tests.browser import browser as browser
from tests.browser import new_page, stay_logged_in
from tests.commands import assert_one_line_error, command, environment, evergreen, tiny_settings
from tests.tiny import conversations, write_jsonl

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOME = Workspace.current().home
PATIENCE_SECONDS = 60
# A folder: the pictures of the documentation are taken again.
SCREENSHOTS = os.environ.get("EVERGREEN_SCREENSHOTS")


class Asking:
    """A flow run that asks, in a process of its own."""

    def __init__(self, hours: float) -> None:
        self.model = f"model-{uuid4().hex[:8]}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.asking", self.model, str(hours)],
            env=environment(HOME),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def waits(self) -> Waiting:
        return waits_for(self.model, self.process)

    def end(self) -> Any:
        """What came of it."""
        said, log = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 0, log[-3000:]
        return json.loads(said)


def waits_for(model: str, process: "subprocess.Popen[str]", seconds: float = 60) -> Waiting:
    deadline = time.monotonic() + seconds
    while True:
        for one in approval.waiting():
            if one.model == model:
                return one
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, "it does not wait"
        time.sleep(0.5)


def state_of(api: str, run: Waiting) -> str:
    found: str = authorized.get(f"{api}/flow_runs/{run.id}").json()["state"]["name"]
    return found


@pytest.fixture
def asking(prefect_api: str) -> Iterator[Callable[..., Asking]]:
    started: list[Asking] = []

    def start(hours: float = 1) -> Asking:
        started.append(Asking(hours))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


WARNED = gate("toxic answers", passed=False, severity="warn")


@pytest.mark.parametrize(
    ("mode", "judged", "needed"),
    [
        ("auto", verdict(WARNED, bar="base"), False),
        ("manual", verdict(), True),
        ("manual", verdict(decision="keep"), False),
        ("manual", verdict(decision="unchanged"), False),
        ("manual-above-risk", verdict(), False),
        ("manual-above-risk", verdict(gate("toxic answers", severity="warn")), False),
        ("manual-above-risk", verdict(gate("held-out loss"), WARNED), True),
        ("manual-above-risk", verdict(bar="base"), True),
        ("manual-above-risk", verdict(WARNED, bar="base", decision="keep"), False),
    ],
)
def test_whether_a_person_is_asked(mode: Mode, judged: Any, needed: bool) -> None:
    assert approval.is_needed(judged, mode) is needed


def answered(**answer: Any) -> Approval:
    given = {"by": "ada", "comment": "", "at": None, "how": "person", "needed": True, **answer}
    return Approval.model_validate(given)


@pytest.mark.parametrize(
    ("given", "decision", "reason"),
    [
        (Approval.automatic(), "promote", "{}"),
        (answered(approved=True), "promote", "{}; approved by ada"),
        (answered(approved=True, comment="fine"), "promote", "{}; approved by ada: fine"),
        (answered(approved=False), "keep", "rejected by ada; {}"),
        (answered(approved=False, comment="curt"), "keep", "rejected by ada: curt; {}"),
        (answered(approved=False, how="time-out", comment="too late"), "keep", "too late; {}"),
    ],
)
def test_the_verdict_after_the_answer(given: Approval, decision: str, reason: str) -> None:
    judged = verdict()
    after = approval.apply(judged, given)
    assert after.decision == decision
    assert after.reason == reason.format(judged.reason)
    assert after.gates == judged.gates


def test_approved_by_command(asking: Callable[..., Asking], prefect_api: str) -> None:
    one = asking()
    run = one.waits()
    assert run.reason == REASON
    listed = json.loads(evergreen("models", "waiting", "--json", home=HOME).stdout)
    assert run.name in [row["name"] for row in listed]
    assert run.name in evergreen("models", "waiting", home=HOME).stdout

    done = evergreen("models", "approve", run.name, "--comment", "read it", home=HOME)
    assert done.returncode == 0, done.stderr
    me = getpass.getuser()
    assert done.stdout.startswith(f"Approved by {me}: ")
    end = one.end()
    assert end["approval"]["how"] == "person"
    assert end["verdict"]["decision"] == "promote"
    assert end["verdict"]["reason"].endswith(f"; approved by {me}: read it")

    # It is answered once.
    again = evergreen("models", "reject", run.name, home=HOME)
    assert_one_line_error(again, "does not wait for approval: it is Completed", "models waiting")
    artifacts = {"flow_runs": {"id": {"any_": [str(run.id)]}}}
    (artifact,) = authorized.post(f"{prefect_api}/artifacts/filter", json=artifacts).json()
    assert (artifact["key"], artifact["data"]) == ("approval", "# What the challenger is like")
    events = {"filter": {"event": {"name": ["evergreen.approval.wanted"]}}}
    found = authorized.post(f"{prefect_api}/events/filter", json=events).json()["events"]
    assert [event["payload"]["reason"] for event in found if _is_of(event, one.model)] == [
        run.reason
    ]


def _is_of(event: Any, model: str) -> bool:
    return bool(event["resource"]["prefect.resource.id"] == f"evergreen.model.{model}")


def test_rejected_by_command(asking: Callable[..., Asking], prefect_api: str) -> None:
    one = asking()
    run = one.waits()
    authorized.post(f"{prefect_api}/flow_runs/{run.id}/resume", json={}).raise_for_status()
    assert state_of(prefect_api, run) == "Paused"  # that was no answer
    answer = ("--name", "ada", "--comment", "too curt", "--json")
    done = json.loads(evergreen("models", "reject", "latest", *answer, home=HOME).stdout)
    assert (done["id"], done["approved"], done["by"]) == (str(run.id), False, "ada")
    verdict = one.end()["verdict"]
    assert verdict["decision"] == "keep"
    assert verdict["reason"].startswith("rejected by ada: too curt; ")


def test_nobody_answers(asking: Callable[..., Asking], prefect_api: str) -> None:
    one = asking(hours=3 / 3600)
    run = one.waits()
    end = one.end()
    assert end["approval"]["how"] == "time-out"
    assert end["verdict"]["decision"] == "keep"
    assert end["verdict"]["reason"].startswith("nobody approved within 0.000833333 hours; ")
    assert state_of(prefect_api, run) == "Completed"


def test_a_run_that_is_cancelled_waits_no_more(
    asking: Callable[..., Asking], prefect_api: str
) -> None:
    one = asking()
    run = one.waits()
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    authorized.post(f"{prefect_api}/flow_runs/{run.id}/set_state", json=state).raise_for_status()
    log = one.process.communicate(timeout=PATIENCE_SECONDS)[1]
    assert one.process.returncode != 0
    assert "this run was Cancelled while it waited for approval" in log
    assert state_of(prefect_api, run) == "Failed"


def test_what_does_not_wait_cannot_be_answered(prefect_api: str) -> None:
    for run in ("no-such-run", str(uuid4())):
        done = evergreen("models", "approve", run, home=HOME)
        assert_one_line_error(done, f"there is no flow run '{run}'", "models waiting")
    assert_one_line_error(
        evergreen("models", "approve", "latest", home=HOME), "no run waits for approval"
    )


@pytest.mark.parametrize(("ui", "approve"), [("old", False), ("new", True)])
def test_answered_in_the_prefect_ui(
    asking: Callable[..., Asking], prefect_api: str, browser: "Browser", ui: str, approve: bool
) -> None:
    """In both that Prefect has: its links lead to the older one, its front page to the newer."""
    # As `get_flow_run_ui_url` has it, or as one who clicks finds it.
    path = "v2/runs" if ui == "new" else "flow-runs"
    one = asking()
    run = one.waits()
    page = new_page(browser)
    stay_logged_in(page, os.environ["PREFECT_API_AUTH_STRING"])
    page.goto(f"{prefect_api.removesuffix('/api')}/{path}/flow-run/{run.id}")
    if ui == "new":
        page.get_by_role("button", name="Open menu").click()
        page.get_by_role("menuitem", name="Resume").click()
    else:
        page.get_by_role("button", name="Resume").click()
    form = page.get_by_role("dialog")
    form.get_by_text(run.reason).wait_for()
    form.get_by_text("toxic answers: ").wait_for()
    switch, name = form.get_by_role("switch"), form.get_by_role("textbox").first
    assert switch.get_attribute("aria-checked") == "false"
    if approve:
        switch.click()
    name.fill("ada")
    if SCREENSHOTS and ui == "new":
        page.wait_for_timeout(1000)
        page.screenshot(path=Path(SCREENSHOTS) / "approval.png")
    form.get_by_role("button", name="Resume" if ui == "new" else "Submit").click()
    end = one.end()
    assert (end["approval"]["how"], end["approval"]["by"]) == ("person", "ada")
    assert end["verdict"]["decision"] == ("promote" if approve else "keep")


def test_a_retrain_waits_for_approval_before_it_promotes(
    prefect_api: str, tiny_model: Path, tmp_path: Path
) -> None:
    name = f"model-{uuid4().hex[:8]}"
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(160))
    settings = tiny_settings(
        tmp_path,
        tiny_model,
        name=name,
        data={"sources": [str(data)]},
        promote={"approval": "manual-above-risk"},
    )
    home = tmp_path / "home"
    retrain = subprocess.Popen(
        command("retrain", "--config", settings, "--json"),
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        run = waits_for(name, retrain, seconds=480)
        listed = evergreen("models", "list", "--config", settings, "--json", home=home)
        assert json.loads(listed.stdout) == []
        done = evergreen("models", "approve", run.name, "--name", "ada", home=home)
        assert done.returncode == 0, done.stderr
        said, log = retrain.communicate(timeout=PATIENCE_SECONDS)
    finally:
        retrain.kill()
    assert retrain.returncode == 0, log[-3000:]
    report = json.loads(said)
    assert report["verdict"]["decision"] == "promote"
    assert report["verdict"]["reason"].endswith("; approved by ada")
    assert report["promotion"]["champion"] == "1"


@pytest.mark.parametrize(
    ("said", "is_steered", "mode"),
    [
        (None, False, "auto"),
        (None, True, "manual-above-risk"),
        ("auto", True, "auto"),
        ("manual", False, "manual"),
        ("manual", True, "manual"),
        ("manual-above-risk", False, "manual-above-risk"),
    ],
)
def test_what_users_steer_is_promoted_by_a_person_unless_told(
    said: Mode | None, is_steered: bool, mode: Mode
) -> None:
    settings = PromoteSettings(approval=said)
    assert approval.mode_of(settings, is_steered=is_steered) == mode
