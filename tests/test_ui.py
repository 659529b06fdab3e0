"""What a person sees in a browser after login, and what a page elsewhere can do: nothing."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from infra.local import free_port, is_free
from tests import authorized
from tests.browser import PREFECT_KEEPS, new_page
from tests.browser import browser as browser
from tests.stack import USUAL, Stack, run_flow, taken, up

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, where somebody else has Prefect's usual port."""
    home = tmp_path_factory.mktemp("ui") / "home"
    with ExitStack() as stop:
        with taken(USUAL):
            running = stop.enter_context(up(home, "--mlflow-port", str(free_port())))
        assert f":{USUAL}" not in running.prefect
        run_flow(running)
        yield running


def sees_everything(browser: "Browser", stack: Stack, ui: str) -> None:
    page = new_page(browser)
    elsewhere: list[str] = []
    page.on("requestfinished", lambda request: elsewhere.append(request.url))
    page.goto(f"{stack.prefect}/{ui}deployments")
    page.get_by_placeholder("admin:pass").fill(stack.auth_string())
    page.get_by_role("button", name="Login").click()
    page.get_by_text("reconcile").first.wait_for()
    page.get_by_text("rollback").first.wait_for()
    page.goto(f"{stack.prefect}/{ui}automations")
    page.get_by_text("evergreen: ").first.wait_for()
    page.goto(f"{stack.prefect}/{ui}artifacts")
    page.get_by_text("seen-after-login").first.wait_for()
    (run,) = authorized.post(
        f"{stack.prefect}/api/flow_runs/filter",
        json={"flow_runs": {"name": {"any_": ["a run that noted"]}}},
        login=stack.auth_string(),
    ).json()
    # As `get_flow_run_ui_url` has it, or as one who clicks finds it.
    path = "v2/runs/flow-run/{}?tab=Artifacts" if ui else "flow-runs/flow-run/{}?tab=Artifacts"
    page.goto(f"{stack.prefect}/{path.format(run['id'])}")
    if not ui:  # it opens the logs, whatever the address says
        page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("Seen after login").or_(page.get_by_text("seen-after-login")).first.wait_for()
    assert "Can't connect" not in page.content()
    ours = (stack.prefect, "data:", "blob:")
    assert [url for url in elsewhere if not url.startswith(ours)] == []
    page.close()


@pytest.mark.parametrize("ui", ["", "v2/"])
def test_with_the_usual_port_taken(browser: "Browser", stack: Stack, ui: str) -> None:
    settings = httpx.get(f"{stack.prefect}/ui-settings").json()
    assert settings["api_url"] == f"{stack.prefect}/api"
    sees_everything(browser, stack, ui)


def test_with_the_usual_port(browser: "Browser", tmp_path: Path) -> None:
    port = USUAL if is_free(USUAL) else free_port()
    with up(tmp_path / "home", "--only", "prefect", "--prefect-port", str(port)) as stack:
        assert stack.prefect == f"http://127.0.0.1:{port}"
        assert httpx.get(f"{stack.prefect}/ui-settings").json()["api_url"] == f"{stack.prefect}/api"
        run_flow(stack)
        sees_everything(browser, stack, "v2/")
        # By its other name too.
        page = new_page(browser)
        page.goto(f"http://localhost:{port}/v2/deployments")
        page.get_by_placeholder("admin:pass").fill(stack.auth_string())
        page.get_by_role("button", name="Login").click()
        page.get_by_text("reconcile").first.wait_for()


def test_a_wrong_password_shows_nothing(browser: "Browser", stack: Stack) -> None:
    page = new_page(browser)
    page.goto(f"{stack.prefect}/v2/deployments")
    page.get_by_placeholder("admin:pass").fill("evergreen:evergreen")
    page.get_by_role("button", name="Login").click()
    page.get_by_text(re.compile("invalid|incorrect", re.IGNORECASE)).first.wait_for()
    assert page.get_by_text("reconcile").count() == 0


def test_mlflow_asks_for_the_login(browser: "Browser", stack: Stack) -> None:
    from playwright.sync_api import Error

    with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        browser.new_context().new_page().goto(stack.mlflow)
    page = logged_in(browser, stack).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{stack.mlflow}/#/experiments")
    page.get_by_text("Default").first.wait_for()


# -- a page elsewhere --------------------------------------------------------------------


def logged_in(browser: "Browser", stack: Stack) -> "BrowserContext":
    """A browser that sends MLflow's login by itself, as after the person typed it once."""
    user, password = stack.auth("MLflow UI")
    return browser.new_context(http_credentials={"username": user, "password": password})


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another server on this machine, with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body></body>")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# Each says what it could do: a text it read, or "sent" where it cannot see the answer.
READ = """async ([url, credentials]) => {
    try { return await (await fetch(url, {credentials})).text(); } catch (error) { return ""; }
}"""
SEND = """async ([url, body, type, method]) => {
    const blob = type === null ? new Blob([body]) : new Blob([body], {type});
    try {
        await fetch(url, {method, mode: "no-cors", credentials: "include", body: blob});
        return "sent";
    } catch (error) { return ""; }
}"""
SUBMIT = """async ([url, fields, type]) => {
    const frame = document.createElement("iframe");
    frame.name = "f" + Math.random();
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, {action: url, method: "POST", enctype: type, target: frame.name});
    for (const [name, value] of Object.entries(fields)) {
        const field = document.createElement("input");
        Object.assign(field, {name, value});
        form.append(field);
    }
    document.body.append(form);
    form.submit();
    await new Promise(done => { frame.onload = done; setTimeout(done, 5000); });
    return "sent";
}"""
LISTEN = """([url, token]) => new Promise(done => {
    const socket = new WebSocket(url, "prefect");
    socket.onopen = () => socket.send(JSON.stringify({type: "auth", token}));
    socket.onmessage = message => done(message.data);
    socket.onerror = socket.onclose = () => done("");
})"""
FRAME = """async url => {
    const frame = document.createElement("iframe");
    frame.src = url;
    document.body.append(frame);
    await new Promise(done => { frame.onload = done; setTimeout(done, 5000); });
}"""
LOAD = """url => new Promise(done => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => done("loaded");
    script.onerror = () => done("");
    document.body.append(script);
})"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_elsewhere_can_do_nothing(
    browser: "Browser", stack: Stack, elsewhere: str, host: str
) -> None:
    context = logged_in(browser, stack)
    page = context.new_page()
    # The person is logged in at both.
    answer = page.goto(stack.mlflow)
    assert answer is not None
    assert answer.status == 200
    page.goto(f"{stack.prefect}/v2/login")
    kept = f"localStorage.setItem('{PREFECT_KEEPS}', btoa('{stack.auth_string()}'))"
    page.evaluate(kept)
    statuses: list[tuple[str, int]] = []
    page.goto(elsewhere.replace("127.0.0.1", host))
    page.on("response", lambda response: statuses.append((response.url, response.status)))

    attack_mlflow(page, stack)
    attack_prefect(page, stack)
    refused = [one for one in statuses if one[0].startswith((stack.prefect, stack.mlflow))]
    assert len(refused) >= 8
    assert {status for _, status in refused} == {403}
    context.close()


def attack_mlflow(page: "Page", stack: Stack) -> None:
    api = f"{stack.mlflow}/ajax-api/2.0/mlflow"
    with httpx.Client(auth=stack.auth("MLflow UI"), base_url=f"{api}/") as own:
        run = own.post("runs/create", json={"experiment_id": "0"}).raise_for_status().json()
        run_id = run["run"]["info"]["run_id"]

        def files() -> Any:
            return own.get("artifacts/list", params={"run_id": run_id}).json().get("files", [])

        search = f"{api}/experiments/search?max_results=5"
        for credentials in ("include", "omit"):
            assert page.evaluate(READ, [search, credentials]) == ""
        upload = f"{api}/upload-artifact?run_uuid={run_id}&path="
        for type in ("text/plain", None, "application/x-www-form-urlencoded"):
            page.evaluate(SEND, [f"{upload}pwned.txt", "pwned", type, "POST"])
        page.evaluate(SUBMIT, [f"{upload}form.txt", {"a": "pwned"}, "text/plain"])
        page.evaluate(LOAD, search)
        page.evaluate(FRAME, stack.mlflow)
        assert files() == []
        # What our own page sends is written: the attack was no harmless one.
        own.post(f"upload-artifact?run_uuid={run_id}&path=own.txt", content=b"x").raise_for_status()
        assert [file["path"] for file in files()] == ["own.txt"]


def attack_prefect(page: "Page", stack: Stack) -> None:
    api = f"{stack.prefect}/api"
    assert page.evaluate(READ, [f"{api}/admin/version", "include"]) == ""
    assert page.evaluate(READ, [f"{stack.prefect}/ui-settings", "include"]) == ""
    named = f"{api}/deployments/name/retrain/retrain"
    deployment = authorized.get(named, login=stack.auth_string()).json()

    def runs() -> int:
        filtered = authorized.post(
            f"{api}/flow_runs/count",
            json={"deployments": {"id": {"any_": [deployment["id"]]}}},
            login=stack.auth_string(),
        )
        return int(filtered.text)

    def state() -> Any:
        found = authorized.get(named, login=stack.auth_string()).json()
        # The runner asks for work all the time.
        return {name: found[name] for name in found if name not in ("last_polled", "updated")}

    before = runs(), state()
    start = f"{api}/deployments/{deployment['id']}/create_flow_run"
    for type in ("text/plain", None):
        page.evaluate(SEND, [start, "{}", type, "POST"])
    page.evaluate(SUBMIT, [start, {'{"parameters": {"a': '": 1}}'}, "text/plain"])
    page.evaluate(LOAD, f"{api}/admin/settings")
    page.evaluate(FRAME, f"{stack.prefect}/v2/")
    # Even one that knows the password, as by looking over a shoulder.
    events = f"{api.replace('http', 'ws', 1)}/events/out"
    assert page.evaluate(LISTEN, [events, stack.auth_string()]) == ""
    assert (runs(), state()) == before


def test_a_name_that_was_pointed_here_shows_nothing(stack: Stack) -> None:
    """DNS rebinding, as a browser does it: the page's own name leads to this machine."""
    import shutil

    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", rules])
        page = browser.new_page()
        for server, path in ((stack.prefect, "/api/health"), (stack.mlflow, "/health")):
            answer = page.goto(server.replace("127.0.0.1", "evil.example") + path)
            assert answer is not None
            assert answer.status == 400
        browser.close()
