"""No secret of the settings is written down, shown or said: not by a deployment that is served, not
by a command, not by an error. Which settings are secrets is read from the tree of settings."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import quote

import httpx
import pytest
import yaml
from pydantic import BaseModel

from data_contracts.databases import hide_password, without_password
from data_contracts.errors import ConfigError
from data_contracts.workspace import Workspace
from flows.settings import Settings, load_settings, published, secret_variables, variable
from infra.local import answers, free_port
from tasks import processes
from tasks.secrets import Address, Secret, WebhookUrl
from tests.commands import TINY, assert_one_line_error, evergreen, tiny_settings
from tests.deployed import served
from tests.leaks import leaks, leaks_in, needles
from tests.tiny import conversations, write_jsonl

SetAt = tuple[str, ...]


def secret_settings(
    model: type[BaseModel] = Settings, above: SetAt = ()
) -> dict[SetAt, type[Secret]]:
    """{path: type} of every secret in the tree of settings."""
    found: dict[SetAt, type[Secret]] = {}
    for name, field in model.model_fields.items():
        for kind, inside in models_in(field.annotation):
            path = (*above, name)
            if issubclass(kind, Secret):
                assert not inside, f"{path}: a secret in a list has no variable of its own"
                found[path] = kind
            else:
                below = secret_settings(kind, path)
                assert not (below and inside), f"{path}: secrets in lists have no variable"
                found |= below
    return found


def models_in(annotation: Any, inside: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """(model, whether it stands in a list or the like) of an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, inside
    held = isinstance(get_origin(annotation), type) and issubclass(
        get_origin(annotation), tuple | list | dict | set | frozenset
    )
    for part in get_args(annotation):
        yield from models_in(part, inside or held)


SECRETS = secret_settings()


def sentinel(path: SetAt) -> str:
    return f"Zq7-{'-'.join(path)}-hunter2"


def text_of(path: SetAt) -> str:
    """A well-formed secret with the sentinel in it."""
    kind, mark = SECRETS[path], sentinel(path)
    if issubclass(kind, WebhookUrl):
        return f"https://hooks.example.org/{mark}"
    return f"postgresql://team:{mark}@db.example.org/x" if issubclass(kind, Address) else mark


def tree(path: SetAt, value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def value_at(settings: Settings, path: SetAt) -> Secret:
    value: Any = settings
    for part in path:
        value = getattr(value, part)
    assert isinstance(value, Secret)
    return value


# -- one setting ---------------------------------------------------------------------


def test_what_sounds_like_a_secret_is_one() -> None:
    def named(model: type[BaseModel], above: SetAt = ()) -> Iterator[SetAt]:
        for name, field in model.model_fields.items():
            if re.search("url|uri|webhook|key|password|passphrase|secret|credential|auth", name):
                yield (*above, name)
            for kind, _ in models_in(field.annotation):
                if not issubclass(kind, Secret):
                    yield from named(kind, (*above, name))

    public = {("evaluate", "judge", "url")}  # refused if it holds a password
    assert set(named(Settings)) - public == set(SECRETS)
    assert len(SECRETS) >= 5


@pytest.mark.parametrize("path", SECRETS, ids=".".join)
def test_a_secret_given_as_text_is_published_as_a_reference(
    path: SetAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(path)
    settings = Settings.model_validate(tree(path, text))
    shown = published(settings)
    assert sentinel(path) not in json.dumps(shown) + repr(settings) + settings.model_dump_json()
    assert secret_variables(settings) == {variable(path): text}
    monkeypatch.setenv(variable(path), text)
    assert value_at(Settings.model_validate(shown), path).reveal("x") == text


@pytest.mark.parametrize("path", SECRETS, ids=".".join)
def test_a_secret_comes_from_variable_or_file(
    path: SetAt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text, file = text_of(path), tmp_path / "mounted"
    file.write_text(f"{text}\n", encoding="utf-8")
    monkeypatch.setenv("SOMETHING_ELSE", text)
    for given in ({"env": "SOMETHING_ELSE"}, {"file": str(file)}):
        settings = Settings.model_validate(tree(path, given))
        assert value_at(settings, path).reveal("x") == text
        assert published(settings) == settings.model_dump(mode="json")
        assert secret_variables(settings) == {}
    monkeypatch.setenv(f"{variable(path)}__FILE", str(file))
    assert value_at(load_settings(), path).reveal("x") == text
    monkeypatch.delenv(f"{variable(path)}__FILE")
    monkeypatch.setenv(variable(path), text)
    assert value_at(load_settings(), path).reveal("x") == text


def test_a_secret_comes_from_a_block(prefect_api: str) -> None:
    from prefect.blocks.system import Secret as SecretBlock

    SecretBlock(value="of-the-block").save("judge-key", overwrite=True)
    assert Secret(block="judge-key").reveal("evaluate.judge.key") == "of-the-block"
    with pytest.raises(ConfigError, match="evaluate.judge.key: cannot read the block 'nowhere'"):
        Secret(block="nowhere").reveal("evaluate.judge.key")


@pytest.mark.parametrize("path", SECRETS, ids=".".join)
@pytest.mark.parametrize(
    "given",
    [
        {"env": "Zq7 hunter2"},
        {"block": "Zq7hunter2://"},
        {"env": "A", "file": "b"},
        {"value": None},
        {"hunter2": "Zq7"},
        ["Zq7 hunter2"],
        "Zq7 hunter2",
        "**********",
        "",
        7,
    ],
)
def test_a_wrong_secret_is_refused_without_saying_it(
    path: SetAt, given: Any, tmp_path: Path
) -> None:
    if given == "Zq7 hunter2" and issubclass(SECRETS[path], Address):
        given += "\nhunter2"  # folders have white space in their names
    file = tmp_path / "evergreen.yaml"
    file.write_text(yaml.safe_dump(tree(path, given)), encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(".".join(path))) as refused:
        load_settings(file)
    assert "\n" not in str(refused.value)
    raised: BaseException | None = refused.value
    while raised is not None:  # a traceback prints those before it too
        assert "Zq7" not in str(raised)
        raised = raised.__cause__


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"env": "NOT_THERE"}, "the environment variable NOT_THERE is not set"),
        ({"file": "/not/there"}, "cannot read the file /not/there (No such file or directory)"),
        ({"file": "/"}, "cannot read the file / (Is a directory)"),
    ],
)
def test_where_no_secret_is_says_so(change: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"notify.webhook: {part}")):
        WebhookUrl.model_validate(change).reveal("notify.webhook")


def test_what_a_reference_leads_to_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfehunter2")
    with pytest.raises(ConfigError, match="not UTF-8") as refused:
        Secret(file=file).reveal("k")
    assert "hunter2" not in str(refused.value)
    for wrong in ("ftp://hunter2", "", "https://hunter2 \n https://hunter2"):
        monkeypatch.setenv("WRONG", wrong)
        with pytest.raises(ConfigError, match="k: the environment variable WRONG must be") as error:
            WebhookUrl(env="WRONG").reveal("k")
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("http://mlflow:5000", True),
        ("sqlite:////home/me/x.db", True),
        ("postgresql://db/x", True),
        ("postgresql://me:pw@db/x", False),
        ("postgresql://db/x?password=pw", False),
        ("https://token@mlflow.example.org", False),
    ],
)
def test_an_address_without_credentials_is_shown(address: str, public: bool) -> None:
    settings = Settings.model_validate({"tracking": {"uri": address}})
    shown = published(settings)["tracking"]["uri"]
    assert shown == (address if public else {"env": "EVERGREEN_TRACKING__URI"})


@pytest.mark.parametrize(
    "key",
    ["data.sources", "watch.logs", "scrub.workers.address", "evaluate.sets", "model.base"],
)
def test_a_password_in_another_address_is_refused(key: str, tmp_path: Path) -> None:
    url: Any = "s3://AKIA1234:hunter2@bucket/chats.jsonl"
    path = tuple(key.split("."))
    given = {"data.sources": [url], "evaluate.sets": [{"name": "own", "path": url}]}.get(key, url)
    file = tmp_path / "evergreen.yaml"
    file.write_text(yaml.safe_dump(tree(path, given)), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"the address {key}.* holds a password") as refused:
        load_settings(file)
    assert "hunter2" not in str(refused.value)


def test_a_password_on_the_command_line_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    url = "s3://AKIA1234:hunter2@bucket/logs"
    for arguments in (("watch", "--logs", url), ("retrain", "--data", url)):
        done = evergreen(*arguments, home=tmp_path / "home")
        assert_one_line_error(done, "holds a password")
        assert "hunter2" not in done.stdout + done.stderr


def test_addresses_that_only_look_like_a_password() -> None:
    paths = ["hf://datasets/a/b@main/x.jsonl", "s3://bucket/a:b@c.jsonl", "a@b:c.jsonl"]
    loaded = Settings.model_validate({"data": {"sources": paths}})
    assert [source.path for source in loaded.data.sources] == paths


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@db/x",
        "postgresql://me:hunter2/@hunter2@db/x",
        "postgresql://me:hunter2%2F@db/x",
        "postgresql://db/x?user=me&password=hunter2",
        "https://hunter2@mlflow.example.org/",
    ],
)
def test_a_database_is_named_without_its_password(url: str) -> None:
    assert "hunter2" not in without_password(url)
    message = f"could not parse '{url}': invalid port; hunter2/@hunter2 hunter2/"
    if url.startswith("postgresql://me"):
        assert "hunter2@db" not in hide_password(message, url)
    else:
        assert url not in hide_password(message, url)


# -- everything together -------------------------------------------------------------


class World:
    """A server for webhooks and the judge, and what it was told."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.keys: set[str | None] = set()
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                world.paths.append(self.path)
                if self.path.endswith("/chat/completions"):
                    world.keys.add(self.headers["Authorization"])
                answer = json.dumps({"choices": [{"message": {"content": "TIE"}}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_args: Any) -> None:
                """Not to the tests' output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class ProcessList:
    """Reads every process's command line again and again."""

    def __init__(self, wanted: dict[bytes, str]) -> None:
        self.seen: set[bytes] = set()
        self.leaks: set[str] = set()
        self._wanted, self._ended = wanted, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has ended
                    line = file.read_bytes()
                    self.seen.add(line)
                    self.leaks |= leaks_in(line, self._wanted)

    def __enter__(self) -> "ProcessList":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[str]:
    """host:port of an MLflow server with a home of its own."""
    folder, place = tmp_path / "mlflow", f"127.0.0.1:{free_port()}"
    folder.mkdir()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--serve-artifacts"),
        *("--host", "127.0.0.1", "--port", place.rpartition(":")[2]),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        server = processes.start(command, env=dict(os.environ), cwd=str(folder), stdout=log)
    try:
        wait_for(lambda: answers(f"http://{place}/health"), 180)
        yield place
    finally:
        processes.stop(server)


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.5)


def literals(world: World, mlflow: str, home: Path) -> dict[SetAt, str]:
    """A secret that works, with the sentinel in it, for every secret setting."""
    wanted = {path: text_of(path) for path in SECRETS}
    for path, kind in SECRETS.items():
        if issubclass(kind, WebhookUrl):
            wanted[path] = f"{world.url}/{sentinel(path)}"
    tracking, ledger = ("tracking", "uri"), ("ledger", "url")
    wanted[tracking] = f"http://evergreen:{sentinel(tracking)}@{mlflow}"
    # SQLite passes over what it does not know in a file's URI.
    wanted[ledger] = f"sqlite:///file:{home}/team.db?uri=true&x={sentinel(ledger)}"
    return wanted


def merged(trees: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in trees:
        for name, value in one.items():
            both = isinstance(value, dict) and isinstance(found.get(name), dict)
            found[name] = merged([found[name], value]) if both else value
    return found


def ask_prefect(method: str, path: str, given: Any = None) -> httpx.Response:
    """A request with whatever login the server wants; also one that it refuses."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            return client.request(method, path, json=given)
        except PrefectHTTPStatusError as refused:
            return refused.response


def everything() -> str:
    """What the Prefect API tells of deployments, runs, artifacts, automations, blocks, events."""
    told = [
        ask_prefect("POST", f"/{what}/filter", {})
        for what in (
            *("deployments", "flow_runs", "task_runs", "artifacts", "automations"),
            *("block_documents", "logs", "events"),
        )
    ]
    assert all(answer.status_code == 200 for answer in told)
    return "\n".join(answer.text for answer in told)


def test_no_secret_is_written_down_or_said(
    prefect_api: str, tiny_model: Path, tmp_path: Path, world: World, mlflow: str
) -> None:
    from prefect.deployments import run_deployment

    home = tmp_path / "home"
    secrets = literals(world, mlflow, home)
    marks = {sentinel(path) for path in SECRETS}
    wanted = needles({*marks, *map(quote, marks)})
    settings = tiny_settings(
        tmp_path,
        tiny_model,
        **merged(
            [
                {"data": {"sources": [str(write_jsonl(tmp_path / "c.jsonl", conversations(160)))]}},
                {"evaluate": {**TINY["evaluate"], "judge": {"url": f"{world.url}/v1"}}},
                {"limits": {"reconcile_minutes": 60}},
                *(tree(path, text) for path, text in secrets.items()),
            ]
        ),
    )
    workspace = Workspace(home=home)
    workspace.create()
    said = ""
    with ProcessList(wanted) as listed:
        with served(workspace, prefect_api, settings):
            run = run_deployment("retrain/retrain", timeout=1500, poll_interval=2)
            assert run.state.is_completed(), run.state
            hook = f"/{sentinel(('notify', 'webhook'))}"
            wait_for(lambda: hook in world.paths, 60)
        # The same by hand; what it takes from the cache does not depend on where secrets are.
        commands: list[tuple[str, ...]] = [
            ("retrain", "--json"), ("config",), ("status",), ("ledger",), ("models", "why", "1"),
            ("models", "rollback"), ("watch", "--logs", str(tmp_path)),
        ]  # fmt: skip
        done = {
            name: evergreen(*name, "--config", settings, home=home, timeout=1500)
            for name in commands
        }
        said += "".join(one.stdout + one.stderr for one in done.values())
        by_hand = done[("retrain", "--json")]
        assert by_hand.returncode == 0, by_hand.stderr[-3000:]
        assert json.loads(by_hand.stdout)["cached"]["train"]
        assert json.loads(by_hand.stdout)["verdict"]["decision"] == "unchanged"

    # They were used.
    assert {f"/{sentinel(path)}" for path in SECRETS if path[-1] == "webhook"} <= set(world.paths)
    assert world.keys == {f"Bearer {sentinel(('evaluate', 'judge', 'key'))}"}
    assert (home / "team.db").stat().st_size > 0
    assert not (home / "ledger.db").exists()
    # And they are nowhere.
    assert leaks(home, tmp_path / "mlflow", Workspace.current().home, wanted=wanted) == {}
    assert any(b"prefect.engine" in line for line in listed.seen)
    assert listed.leaks == set()
    assert leaks_in(said.encode(), wanted) == set()
    assert leaks_in(everything().encode(), wanted) == set()
    assert leaks_in(settings.read_bytes(), wanted) == marks  # it is able to see what is there


def test_the_server_refuses_a_secret_among_parameters(prefect_api: str) -> None:
    """Whoever edits a run's settings in the UI is stopped before it is stored."""
    from flows.deployments import deployments, take_over

    served = {one.name: take_over(one) for one in deployments(Settings())}
    for name in ("retrain", "watch", "reconcile", "retention", "rollback"):
        deployment = f"/deployments/{served[name]}"
        for path in SECRETS:
            given = {"parameters": {"settings": tree(path, text_of(path))}}
            for answer in (
                ask_prefect("POST", f"{deployment}/create_flow_run", given),
                ask_prefect("PATCH", deployment, given),
            ):
                assert answer.status_code in (409, 422), answer.text
        for settings in (
            {"notify": {"webhook": {"env": "X"}}},
            {"tracking": {"uri": "http://mlflow:5000"}},
        ):
            given = {"parameters": {"settings": settings}}
            run = ask_prefect("POST", f"{deployment}/create_flow_run", given)
            assert run.status_code == 201, run.text
            ask_prefect("DELETE", f"/flow_runs/{run.json()['id']}")
    assert "hunter2" not in everything()


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("LEDGER__URL", "postgresql://team:Zq7hunter2@127.0.0.1:9/x"),
        ("LEDGER__URL", "postgresql://team:Zq7hunter2@127.0.0.1:nine/x"),
        ("LEDGER__URL", "nonsense://team:Zq7hunter2@127.0.0.1/x"),
        ("LEDGER__URL", "Zq7hunter2@"),
        ("TRACKING__URI", "postgresql://team:Zq7hunter2@127.0.0.1:9/x"),
        ("TRACKING__URI", "postgresql://team:Zq7hunter2@127.0.0.1:nine/x"),
        ("TRACKING__URI", "nonsense://team:Zq7hunter2@127.0.0.1/x"),
        ("TRACKING__URI", "http://team:Zq7hunter2@127.0.0.1:nine/"),
    ],
)
def test_a_database_that_does_not_answer_is_one_line_without_its_password(
    key: str, url: str, tmp_path: Path
) -> None:
    command = "ledger" if key == "LEDGER__URL" else "status"
    done = evergreen(command, home=tmp_path / "home", **{f"EVERGREEN_{key}": url})
    assert_one_line_error(done, key.lower().replace("__", "."))
    assert "Zq7" not in done.stdout + done.stderr


def test_serving_with_wrong_settings_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "evergreen.yaml"
    file.write_text("notify: {webhook: 'ftp://Zq7hunter2'}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "flows.deployments", "serve", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line_error(done, "notify.webhook")
    assert "Zq7" not in done.stderr
