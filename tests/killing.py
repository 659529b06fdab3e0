"""Promotions and rollbacks that are killed (SIGKILL) before the n-th thing they write.

A process that forks a child for each: starting one anew takes seconds.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from itertools import count
from pathlib import Path
from typing import Any

from data_contracts.workspace import Workspace
from models.base import Base
from tests.registries import Intercepted, Registry

WRITES = ("create_", "set_", "delete_")


def mortal(models: Registry, writes: int) -> Intercepted:
    """A client whose process dies before its n-th write, a commit of the ledger included."""
    from sqlalchemy import event

    left = count(writes, -1)

    def write(*_: Any) -> None:
        if next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(models.ledger._engine, "commit", write)
    return Intercepted(models.client, lambda name, *_: write() if name.startswith(WRITES) else None)


class Killer:
    """The process that forks; used by tests."""

    def __init__(self, models: Registry) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.killing", str(models.workspace.home)),
                *(models.name, models.base.model_dump_json()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill(self, before_write: int, *what: str | None) -> bool:
        """Do something until its n-th write; False if it came to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([before_write, *what]), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def do(models: Registry, writes: int, action: str, *arguments: Any) -> None:
    client = mortal(models, writes)
    if action == "rollback":
        from tasks.promote import rollback

        (to,) = arguments
        rollback(
            client, models.name, to, models.workspace, models.ledger, by="a test", reason="worse"
        )
    else:
        name, judged_against = arguments
        models.promote(name, "promote", judged_against, client=client)


def main(home: str, name: str, base: str) -> None:
    import peft  # noqa: F401 - so that the children have it
    import transformers  # noqa: F401

    with tempfile.TemporaryDirectory() as scratch:  # and all that MLflow imports when it is used
        Registry(Workspace(home=Path(scratch))).promote("first", "promote", None)
    workspace = Workspace.model_validate({"home": home})
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                models = Registry(workspace, name, Base.model_validate_json(base))
                do(models, *json.loads(line))
            except BaseException:  # noqa: BLE001 - nothing of the parent is to run here
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
