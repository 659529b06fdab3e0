"""Child processes that cannot outlive us.

`start` runs a command under a small guard (this file as `python -m`), which holds the
read end of a pipe. When this process ends, even by `kill -9`, the pipe closes and the
guard ends the command with everything it started.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

import psutil

GRACE_SECONDS = 10.0


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdout: IO[str] | int | None = subprocess.PIPE,
) -> "subprocess.Popen[str]":
    """Start `command`, its output (stderr included) going to `stdout`.

    Its process is the guard; `stop` or the end of this process ends both.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.processes", *command],
        env=dict(env) if env is not None else None,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C reaches us, and we decide what ends and in which order.
        start_new_session=True,
    )


def stop(process: "subprocess.Popen[str]") -> None:
    """End a process made by `start` and wait for it. Does nothing if it has ended."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=GRACE_SECONDS + 5)
    except subprocess.TimeoutExpired:
        _end_tree(psutil.Process(process.pid), 0.0)
        process.wait()


def _end_tree(root: psutil.Process, grace: float) -> None:
    """Terminate a process and all below it; kill what is left after `grace` seconds."""
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(tree, timeout=grace)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _guard(command: Sequence[str]) -> int:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end_with_parent() -> None:
        sys.stdin.buffer.read()  # returns when the parent closes the pipe or ends
        _end_tree(psutil.Process(child.pid), GRACE_SECONDS)

    threading.Thread(target=end_with_parent, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # _exit: the daemon thread still holds stdin's lock.
    code = _guard(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
