"""`evergreen up` as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from infra.local import is_free
from tests.commands import command, environment, evergreen

SECONDS = 600
FLOW = """
from prefect import flow
from prefect.artifacts import create_markdown_artifact

@flow(name="noted", flow_run_name="a run that noted")
def noted():
    create_markdown_artifact("# Seen after login", key="seen-after-login")

if __name__ == "__main__":
    noted()
"""
USUAL = 4200


class Stack(NamedTuple):
    home: Path
    process: "subprocess.Popen[str]"
    log: Path
    logins: dict[str, dict[str, str]]

    @property
    def prefect(self) -> str:
        return self.logins["Prefect UI"]["address"]

    @property
    def mlflow(self) -> str:
        return self.logins["MLflow UI"]["address"]

    def auth(self, server: str = "Prefect UI") -> tuple[str, str]:
        return self.logins[server]["user"], self.logins[server]["password"]

    def auth_string(self, server: str = "Prefect UI") -> str:
        return ":".join(self.auth(server))

    def shell(self) -> dict[str, str]:
        """The environment of a shell after `eval "$(evergreen login --shell)"`."""
        lines = evergreen("login", "--shell", home=self.home, **without_prefect()).stdout
        script = f"{lines}\nenv -0"
        done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
        return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def without_prefect() -> dict[str, str]:
    """Variables that hide the server that all tests share; empty ones count as not given."""
    return {"PREFECT_API_URL": "", "PREFECT_API_AUTH_STRING": ""}


@contextmanager
def up(home: Path, *options: str, **env: str) -> Iterator[Stack]:
    """The stack while the block runs."""
    log = home.with_suffix(".up.log")
    variables = environment(home, **env)
    for name in without_prefect():
        variables.pop(name, None)
    with log.open("w") as out:
        process = subprocess.Popen(
            command("up", *options), env=variables, stdout=out, stderr=subprocess.STDOUT, text=True
        )
    try:
        deadline = time.monotonic() + SECONDS
        while "Ctrl-C stops everything" not in log.read_text():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.3)
        shown = json.loads(evergreen("login", "--json", home=home).stdout)
        yield Stack(home, process, log, {one["server"]: one for one in shown})
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def run_flow(stack: Stack) -> Path:
    """A run with an artifact, made by a script of the user's."""
    script = stack.home.parent / "noted.py"
    script.write_text(FLOW, encoding="utf-8")
    env = {**os.environ, "EVERGREEN_HOME": str(stack.home), **stack.shell()}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return script


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Somebody else's server at this port, while the block runs."""
    if not is_free(port):
        yield
        return
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def processes_below(pid: int) -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """(pid, command line, environment) of each."""
    import psutil

    for process in psutil.Process(pid).children(recursive=True):
        try:
            yield process.pid, process.cmdline(), process.environ()
        except psutil.NoSuchProcess:
            continue


def running_as(stack: Stack, word: str) -> list[dict[str, str]]:
    """The environments of the stack's processes with this word in their command line."""
    return [env for _, line, env in processes_below(stack.process.pid) if word in " ".join(line)]
