"""Nobody gets in: what a training opens, who reaches it, and what a stranger can make of it."""

import base64
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from data_contracts.errors import ConfigError
from models.spec import StepMetrics
from tasks.rendezvous import is_private, require_private
from tasks.train import Event, TrainSettings, launch, train
from tests.commands import assert_one_line_error, evergreen, tiny_settings
from tests.jobs import job
from tests.sockets import Listening
from tests.tiny import conversations, write_jsonl

TWO_RANKS = TrainSettings(
    processes=2, max_steps=40, epochs=9, learning_rate=2e-3, lora_rank=4, validation_share=0.3,
    validations=2, checkpoint_steps=10, max_restarts=0,
)  # fmt: skip


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def attack(address: str, command: str) -> None:
    """Send a pickle in every way that torch's servers read one."""
    host, port = address.rsplit(" ", 1)
    payload = pickle.dumps(Evil(command))
    for framed in (payload, struct.pack("<Q", len(payload)) + payload, b"\0" * 8 + payload):
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1) as one:
            one.sendall(framed)
    with suppress(RuntimeError):  # it is no store, or does not answer
        store = dist.TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=3))
        for key in store.list_keys():
            if "torch.rendezvous" in key and not key.rsplit(".", 1)[-1].isdigit():
                store.set(key.removeprefix("/"), base64.b64encode(payload).decode())


# -- one machine ---------------------------------------------------------------------


def test_the_ranks_of_one_machine_listen_on_loopback_and_run_nothing_that_is_sent(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run-by-a-stranger"
    spec = job(tmp_path, tiny_model, TWO_RANKS)
    attackers: list[threading.Thread] = []
    with Listening() as found:

        def follow(event: Event) -> None:
            if isinstance(event, StepMetrics) and event.step == 5:
                for address in found.now():
                    arguments = (address, f"touch {run}")
                    attackers.append(threading.Thread(target=attack, args=arguments))
                    attackers[-1].start()

        trained = train(spec, TWO_RANKS, follow)
    for one in attackers:
        one.join()
    assert attackers, "the ranks talk to each other somewhere"
    assert found.beyond_loopback == {}
    assert not any("torch.distributed.run" in command for command in found.seen.values())
    assert not run.exists()
    assert trained.metrics.processes == 2
    assert trained.metrics.validation_loss is not None, "the validator did not run"


def test_the_ranks_meet_in_a_folder_that_nobody_else_enters(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    modes: dict[str, int] = {}

    def follow(event: Event) -> None:
        if isinstance(event, StepMetrics):
            for folder in tmp_path.glob(".partial-*"):
                modes[folder.name] = folder.stat().st_mode & 0o777

    changed = TWO_RANKS.model_copy(update={"max_steps": 3, "validation_share": 0.0})
    train(job(tmp_path / "job", tiny_model, changed), changed, follow)
    assert list(modes.values()) == [0o700]
    assert not list(tmp_path.glob(".partial-*"))


# What Python runs at its start: no rank unpickles what another sent, as gloo asks nobody who it is.
NO_PICKLES = """
import torch.distributed.distributed_c10d as c10d

def refuse(*_):
    raise SystemExit("a rank unpickles what came from a socket")

c10d._tensor_to_object = refuse
"""


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_no_rank_unpickles_what_it_receives(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero_stage: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_PICKLES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    changed = TWO_RANKS.model_copy(
        update={
            "zero_stage": zero_stage,
            "max_steps": 90,
            "epochs": 40,
            "checkpoint_steps": 30,  # the next is far off when the rank is killed
            "max_restarts": 1,
        }
    )
    spec = job(tmp_path, tiny_model, changed)
    again: list[int] = []

    def follow(event: Event) -> None:
        if isinstance(event, StepMetrics):
            if event.step == 33 and 33 not in again:
                os.kill(rank_of(spec.output), 9)
            again.append(event.step)

    trained = train(spec, changed, follow)
    assert trained.metrics.resumed_from == (30,)


def rank_of(output: str) -> int:
    """A rank's process."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            line = process.cmdline()
            if "-u" in line and "models.finetune" in line and any(output in one for one in line):
                return process.pid
    raise AssertionError("there is no rank")


def test_a_retrain_listens_on_loopback_alone(tiny_model: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    settings = tiny_settings(
        tmp_path, tiny_model, data={"sources": [str(data)]}, scrub={"workers": {"count": 2}}
    )
    with Listening(tmp_path / "home") as found:
        done = evergreen(
            "retrain", "--config", settings, home=tmp_path / "home", timeout=900, PREFECT_API_URL=""
        )
    assert done.returncode == 0, done.stderr[-3000:]
    commands = list(found.seen.values())
    assert any("infra.guard:prefect_app" in command for command in commands)
    assert any("models.finetune" in command for command in commands)
    assert found.beyond_loopback == {}


# -- several machines ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True), ("10.255.0.1", True), ("172.16.0.1", True), ("172.31.255.255", True),
        ("192.168.1.1", True), ("169.254.9.9", True), ("100.64.0.1", True), ("100.127.1.1", True),
        ("::1", True), ("fe80::1%eth0", True), ("fd12::1", True), ("::ffff:10.0.0.1", True),
        ("8.8.8.8", False), ("172.15.0.1", False), ("172.32.0.1", False), ("100.63.0.1", False),
        ("100.128.0.1", False), ("0.0.0.1", False), ("::", False), ("2001:4860:4860::8888", False),
        ("::ffff:8.8.8.8", False), ("2002:0a00:0001::1", False), ("198.18.0.1", False),
        ("224.0.0.1", False), ("203.0.113.7", False),
    ],
)  # fmt: skip
def test_which_addresses_are_private(address: str, private: bool) -> None:
    assert is_private(address) is private


def answering(addresses: list[str]) -> object:
    """A resolver that knows every host by these addresses."""
    kinds = {True: socket.AF_INET6, False: socket.AF_INET}

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(kinds[":" in one], socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses]

    return getaddrinfo


def test_one_public_address_among_those_of_a_host_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(["10.0.0.1", "fd00::1"]))
    require_private("node-1:29500", public=False)
    monkeypatch.setattr(socket, "getaddrinfo", answering(["10.0.0.1", "198.51.100.7"]))
    with pytest.raises(ConfigError, match=r"not private \(198\.51\.100\.7\)"):
        require_private("node-1:29500", public=False)
    require_private("node-1:29500", public=True)


@pytest.mark.parametrize(
    ("rendezvous", "says"),
    [
        ("8.8.8.8:29500", "8.8.8.8:29500 is not private"),
        ("[2001:4860:4860::8888]:29500", "is not private (2001:4860:4860::8888)"),
        ("134744072:29500", "is not private (8.8.8.8)"),
        ("no-such-host.invalid:29500", "'no-such-host.invalid' is unknown"),
        ("10.0.0.1:70000", "port"),
    ],
)
def test_a_rendezvous_in_public_is_refused_before_anything_starts(
    tiny_model: Path, tmp_path: Path, rendezvous: str, says: str
) -> None:
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    settings = tiny_settings(tmp_path, tiny_model)
    with settings.open("a", encoding="utf-8") as file:
        file.write(f"\ndata: {{sources: [{data}]}}\n")
    env = {"EVERGREEN_TRAIN__NODES": "2", "EVERGREEN_TRAIN__RENDEZVOUS": rendezvous}
    home = tmp_path / "home"
    for command in ("retrain", "join"):
        with Listening() as found:
            done = evergreen(
                command, "--config", settings, home=home, timeout=120, PREFECT_API_URL="", **env
            )
        assert_one_line_error(done, "train.rendezvous", says)
        assert done.returncode == 2
        assert found.seen == {}
    assert not (home / "runs").exists()


def test_a_job_that_is_launched_directly_checks_its_rendezvous_too(
    tiny_model: Path, tmp_path: Path
) -> None:
    changed = TWO_RANKS.model_copy(
        update={"nodes": 2, "processes": 1, "rendezvous": "192.0.2.1:29500"}
    )
    spec = job(tmp_path, tiny_model, changed)
    spec.output_path.mkdir(parents=True)
    file = spec.output_path / "spec.json"
    file.write_text(spec.model_dump_json(), encoding="utf-8")
    with pytest.raises(ConfigError, match="192.0.2.1"):
        launch(file, changed, lambda _: None)


def test_the_loopback_interface_is_one_of_this_machine() -> None:
    script = "from tasks.rendezvous import loopback_interface; print(loopback_interface())"
    name = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert name.stdout.strip() in dict(enumerate_interfaces())


def enumerate_interfaces() -> list[tuple[str, int]]:
    return [(name, index) for index, name in socket.if_nameindex()]
