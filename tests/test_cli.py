"""The command line as a user meets it: help, results, and one line when something is wrong."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import run as run_command
from infra.local import choose_port, free_port, is_free
from tests import authorized
from tests.commands import (
    assert_one_line_error,
    command,
    environment,
    evergreen,
    tiny_settings,
)
from tests.tiny import conversations, write_jsonl

COMMANDS = [
    ["doctor"], ["demo"], ["retrain"], ["scrub"], ["validate"], ["ask"], ["up"], ["status"],
    ["models", "list"], ["models", "show"], ["models", "check"], ["config"],
]  # fmt: skip


def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """`evergreen ARGUMENTS` in this process: quicker where a fresh one tells no more."""
    monkeypatch.setattr("sys.argv", ["evergreen", *arguments])
    code = run_command()
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, out, err)


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_help_has_an_example(
    name: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = in_process(monkeypatch, capsys, *name, "--help")
    assert done.returncode == 0
    assert f"evergreen {' '.join(name)}" in " ".join(done.stdout.split())
    assert "Example:" in done.stdout


def test_doctor(tmp_path: Path) -> None:
    done = evergreen("doctor", "--json", home=tmp_path / "home")
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert found["ok"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_scrub_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    rows = conversations(4)
    rows[0]["messages"][0]["content"] = "call 555-123-4567"
    source = write_jsonl(tmp_path / "raw.jsonl", [*rows, {"no": "messages"}])
    output = tmp_path / f"clean.{ending}"
    done = in_process(monkeypatch, capsys, "scrub", str(source), str(output), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["account"] == {"rows_in": 5, "rows_out": 4, "quarantined": 1, "duplicates": 0}
    clean = (
        [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        if ending == "jsonl"
        else pq.read_table(output).to_pylist()
    )
    assert clean[0]["messages"][0]["content"] == "call <PHONE_NUMBER_1>"
    assert len(clean) == 4


def test_validate_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", conversations(3))
    done = in_process(monkeypatch, capsys, "validate", str(good), "--json")
    assert (done.returncode, json.loads(done.stdout)["broken"]) == (0, 0)
    pirate = {"messages": [{"role": "pirate", "content": "arr"}]}
    alone = {"messages": [{"role": "user", "content": "anyone?"}]}
    bad = write_jsonl(tmp_path / "bad.jsonl", [*conversations(3), pirate, alone])
    done = in_process(monkeypatch, capsys, "validate", str(bad), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["broken"]) == (1, 1)
    assert found["unreadable"] == {"messages.role: no such role": 1}


# -- bad input ---------------------------------------------------------------------------


def test_a_missing_file_starts_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    done = evergreen("retrain", "--data", tmp_path / "none.jsonl", home=tmp_path / "home")
    assert_one_line_error(done, "nothing at", "none.jsonl")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("kind", ["empty", "folder", "binary", "no parquet", "unknown scheme"])
def test_data_that_cannot_be_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    path, part = {
        "empty": (tmp_path / "empty.jsonl", "has no rows"),
        "folder": (tmp_path / "folder", "nothing at"),
        "binary": (tmp_path / "data.bin", "neither JSONL nor Parquet"),
        "no parquet": (tmp_path / "broken.parquet", "cannot read"),
        "unknown scheme": ("gopher://x/y.jsonl", "cannot look at"),
    }[kind]
    if kind == "folder":
        Path(path).mkdir()
    elif kind != "unknown scheme":
        Path(path).write_bytes(b"" if kind == "empty" else b"\x00\x01")
    done = in_process(monkeypatch, capsys, "validate", str(path))
    assert_one_line_error(done, part)


def test_rows_of_every_broken_kind_among_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_jsonl(tmp_path / "raw.jsonl", conversations(5))
    with source.open("ab") as file:
        file.write(b"not json\n" + b'{"messages": 3}\n' + b"\xff\xfe\n")
        file.write(json.dumps({"prompt": "x" * 10_000_000, "response": "y"}).encode() + b"\n")
        file.write(json.dumps(conversations(1)[0]).encode() + b"\n")
    done = in_process(
        monkeypatch, capsys, "scrub", str(source), str(tmp_path / "out.jsonl"), "--json"
    )
    account = json.loads(done.stdout)["account"]
    assert account == {"rows_in": 10, "rows_out": 6, "quarantined": 4, "duplicates": 0}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["retrain", "--config", "none.yaml"], ["no settings file none.yaml"]),
        (["retrain", "--frobnicate"], ["--frobnicate"]),
        (["scrub", "in.jsonl", "out.txt"], ["must end in .jsonl or .parquet"]),
        (["scrub", "in.jsonl", "nowhere/out.jsonl"], ["no folder"]),
        (["models", "show", "7"], ["no version 7"]),
        (["ask", "hi"], ["no champion"]),
        (["frobnicate"], ["frobnicate"]),
    ],
)
def test_wrong_arguments(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    parts: list[str],
) -> None:
    assert_one_line_error(in_process(monkeypatch, capsys, *arguments), *parts)


def test_a_wrong_setting_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("train: {epoch: 2}")
    done = in_process(monkeypatch, capsys, "retrain", "--config", str(file))
    assert_one_line_error(done, "unknown setting 'train.epoch'", "did you mean 'epochs'?")
    assert done.returncode == 2


def test_a_base_model_without_a_tokenizer(
    prefect_api: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(40))
    settings = tiny_settings(tmp_path, folder)
    done = evergreen("retrain", "--config", settings, "--data", data, home=tmp_path / "home")
    assert_one_line_error(done, "has no tokenizer", str(folder))


def test_no_disk_space(prefect_api: str, tmp_path: Path) -> None:
    """A real full disk: a file-size limit makes every larger write fail as one does."""
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(400))
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        f"sys.argv = ['evergreen', 'scrub', {str(data)!r}, {str(tmp_path / 'out.jsonl')!r}];"
        "from flows.cli import main; main()"
    )
    done = subprocess.run(
        [*command()[:1], "-c", script],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line_error(done, "cannot write", "File too large")
    assert [path.name for path in tmp_path.rglob("*") if "out" in path.name] == []
    assert list(tmp_path.rglob("*.partial")) == []


def test_parquet_and_globs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q {n}", "response": f"a {n}"} for n in range(6)]
    pq.write_table(pa.Table.from_pylist(rows[:3]), tmp_path / "a.parquet")
    write_jsonl(tmp_path / "b.jsonl", rows[3:])
    for path in (tmp_path, tmp_path / "*"):
        done = in_process(monkeypatch, capsys, "validate", str(path), "--json")
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout)["rows"] == 6


def test_other_filesystems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever fsspec reaches: here its in-memory file system, as s3:// or hf:// elsewhere."""
    import fsspec

    with fsspec.open("memory://bucket/day/chats.jsonl.gz", "wb", compression="gzip") as file:
        file.write("".join(json.dumps(row) + "\n" for row in conversations(4)).encode())
    for path in ("memory://bucket/day", "memory://bucket/*/chats.jsonl.gz"):
        done = in_process(monkeypatch, capsys, "validate", path, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == 4


# -- the stack ---------------------------------------------------------------------------


def test_up_serves_deployments_and_stops_what_it_started(tiny_model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ports = (free_port(), free_port())
    env = environment(home)
    env.pop("PREFECT_API_URL", None)
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    log = tmp_path / "up.log"
    with log.open("w") as out:
        up = subprocess.Popen(
            command(
                *("up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])),
                *("--config", tiny_settings(tmp_path, tiny_model, data={"sources": [str(data)]})),
            ),
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    api = f"http://127.0.0.1:{ports[0]}/api"
    try:
        wait_for(lambda: "Ctrl-C stops everything" in log.read_text(), up)
        prefect, mlflow = json.loads(evergreen("login", "--json", home=home).stdout)
        own = (mlflow["user"], mlflow["password"])
        assert httpx.get(mlflow["address"], auth=own).status_code == 200
        assert httpx.get(f"http://127.0.0.1:{ports[0]}/", follow_redirects=True).status_code == 200
        login = f"{prefect['user']}:{prefect['password']}"
        assert authorized.post(f"{api}/deployments/filter", json={}, login=login).json()

        second = evergreen("up", home=home)
        assert_one_line_error(second, "already up")

        # A run of the deployment, as the UI or a schedule starts it.
        deployment = authorized.get(f"{api}/deployments/name/retrain/retrain", login=login).json()
        flow_run = authorized.post(
            f"{api}/deployments/{deployment['id']}/create_flow_run",
            json={"state": {"type": "SCHEDULED"}},
            login=login,
        ).json()

        def state() -> str:
            found = authorized.get(f"{api}/flow_runs/{flow_run['id']}", login=login).json()
            return str(found["state"]["type"])

        wait_for(lambda: state() in ("COMPLETED", "FAILED", "CRASHED"), up, seconds=400)
        assert state() == "COMPLETED", log.read_text()[-3000:]
        versions = evergreen("models", "list", "--json", home=home)
        assert len(json.loads(versions.stdout)) == 1
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(timeout=60)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not (home / "services.json").exists()


def test_of_two_commands_at_once_one_has_the_usual_port() -> None:
    usual = free_port()
    code = f"from infra.local import choose_port; print(choose_port(None, {usual})); input()"
    waiting = [sys.executable, "-u", "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(waiting, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == usual
        assert is_free(usual), "nobody serves on it yet"
        assert choose_port(None, usual) != usual
        other.kill()
    assert choose_port(None, usual) == usual


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = evergreen("up", "--only", "mlflow", "--mlflow-port", str(port), home=tmp_path / "h")
    assert_one_line_error(done, f"port {port} is in use")


def wait_for(condition: object, process: "subprocess.Popen[bytes]", seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended by itself"
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s")


def test_drift_tells_by_its_exit_code(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("watch: {min_records: 30}\ndrift: {permutations: 199}\n", encoding="utf-8")
    tech = [
        {"prompt": f"my printer number {n} does not print", "response": "turn it off and on"}
        for n in range(60)
    ]
    weather = conversations(120, seed=4)
    files = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", rows)
        for name, rows in {
            "may": weather[::2],
            "june": weather[1::2],
            "tech": tech,
            "few": tech[:5],
        }.items()
    }

    def drift(current: Path) -> "subprocess.CompletedProcess[str]":
        return evergreen(
            *("drift", "--reference", files["may"], "--current", current),
            *("--config", config, "--json"),
            home=tmp_path / "home",
        )

    alike, apart = drift(files["june"]), drift(files["tech"])
    assert (alike.returncode, apart.returncode) == (0, 3), alike.stderr + apart.stderr
    assert json.loads(apart.stdout)["verdict"] == "drift"
    assert_one_line_error(drift(files["few"]), "too few to tell", "watch.min_records")
    assert_one_line_error(drift(tmp_path / "none.jsonl"), "nothing at")
    assert drift(files["few"]).returncode not in (0, 3)


def test_watch_without_logs_or_champion_says_so(tmp_path: Path, prefect_api: str) -> None:
    home = tmp_path / "home"
    assert_one_line_error(evergreen("watch", home=home), "no logs to watch", "--logs")
    done = evergreen("watch", "--logs", tmp_path, home=home)
    assert_one_line_error(done, "has no champion", "evergreen retrain")
    assert evergreen("ledger", "--json", home=home).stdout.strip() == "[]"
    assert_one_line_error(evergreen("ledger", "nope", home=home), "no request 'nope'")


def test_plan_says_what_training_would_take(tiny_model: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(40))
    settings = tiny_settings(tmp_path, tiny_model, data={"sources": [str(data)]})
    done = evergreen("plan", "--config", settings, "--json", "--price", "2", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["fits"]
    assert plan["steps"] == 25  # five epochs of five steps of eight conversations
    assert plan["cost"] == pytest.approx(2 * plan["seconds"] / 3600)
    table = evergreen(
        "plan", "--config", settings, "--gpus", "8", "--gpu-memory", "0.5", home=tmp_path / "home"
    )
    assert table.returncode == 1, "half a GB is said to be enough"
    assert "It does not fit" in table.stdout


def test_join_without_another_machine_says_so(tmp_path: Path) -> None:
    done = evergreen("join", home=tmp_path / "home")
    assert done.returncode == 2
    assert "train.nodes is 1" in done.stderr
