"""`evergreen scrub` from ten thousand to a million messages: time, memory, kills, and new rows.

    python -m bench.scale [--sizes 10000 30000 100000 300000 1000000] [--plot FILE]

Conversations of ten messages, each a message of a human conversation with one word exchanged, so
that no two are alike, and in one of twenty a sentence of invented personal data. Every size starts
in a home of its own that has nothing but the detector. Memory is that of all processes together,
shared pages counted once (PSS), looked at twice a second. The largest is scrubbed a second time and
killed with -9, workers and all, after a third and after two thirds of its shards; and once more
with 1% new rows. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from bench.scrub import messages
from data_contracts.policy import load_policy
from data_contracts.workspace import Workspace

TURNS = 10
PLANTED = 0.05


def conversations(count: int, seed: int) -> Iterator[dict[str, Any]]:
    from tasks.scrub.synthetic.sentences import fill, templates
    from tasks.scrub.synthetic.values import Values

    draw, values = random.Random(seed), Values(seed, for_audits=True)
    texts = [text.split(" ") for text in dict.fromkeys(messages())]
    words = sorted({word for text in texts for word in text})
    for number in range(count):
        turns = []
        for turn in range(TURNS):
            text = list(draw.choice(texts))
            text[draw.randrange(len(text))] = draw.choice(words)
            if draw.random() < PLANTED:
                values.country()
                text.append(fill(draw.choice(templates(for_audits=True)), values).text)
            turns.append({"role": ("user", "assistant")[turn % 2], "content": " ".join(text)})
        yield {"id": str(UUID(int=(seed << 64) + number)), "messages": turns}


def write(path: Path, rows: Iterator[dict[str, Any]], mode: str = "w") -> None:
    with path.open(mode, encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


class Run:
    """One `evergreen scrub`, watched until it ends or is killed."""

    def __init__(self, source: Path, home: Path, detector: str) -> None:
        self.output, self.home = source.with_name("out.jsonl"), home
        self._report = source.with_name("report.json")
        self._command = [sys.executable, "-m", "flows.cli", "scrub", str(source)]
        self._command += [str(self.output), "--report", str(self._report)]
        self._environment = os.environ | {
            "EVERGREEN_HOME": str(home),
            "EVERGREEN_SCRUB__DETECTOR__FOLDER": detector,
        }
        self.memory: list[tuple[float, int]] = []
        self.seconds = 0.0

    def __call__(self, enough: Callable[[], bool] = lambda: False) -> bool:
        """Whether it ended; not if it was killed because that was `enough`."""
        started = time.perf_counter()
        process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        root = psutil.Process(process.pid)
        while process.poll() is None:
            self.memory.append((time.perf_counter() - started, pss(root)))
            if enough():
                family = [*root.children(recursive=True), root]
                for one in family:
                    one.kill()
                psutil.wait_procs(family)
                process.wait()
                return False
            time.sleep(0.5)
        self.seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{' '.join(self._command)} ended with {process.returncode}")
        return True

    @property
    def shards(self) -> int:
        return sum(1 for _ in (self.home / "cache" / "scrub").glob("*.parquet"))

    @property
    def account(self) -> dict[str, int]:
        account: dict[str, int] = json.loads(self._report.read_text("utf-8"))["account"]
        return account


def pss(root: psutil.Process) -> int:
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def identifiers(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["id"] for line in file]


def accounted(source: Path, run: Run) -> bool:
    """Every row came out under its id, or is counted as quarantined or a duplicate."""
    given, came = identifiers(source), identifiers(run.output)
    account = run.account
    return (
        len(came) == len(set(came)) == account["rows_out"]
        and set(came) <= set(given)
        and len(given) == account["rows_in"]
        and len(given) - len(came) == account["quarantined"] + account["duplicates"]
    )


def draw_plot(path: Path, sizes: list[dict[str, Any]], memory: list[tuple[float, int]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = [row["messages"] for row in sizes]
    left.loglog(counts, [row["seconds"] for row in sizes], "o-", label="measured")
    slope = (sizes[-1]["seconds"] - sizes[0]["seconds"]) / (counts[-1] - counts[0])
    start = sizes[0]["seconds"] - slope * counts[0]
    line = [start + slope * count for count in counts]
    left.loglog(counts, line, ":", color="grey", label=f"{start:.0f} s + {1e3 * slope:.2f} ms each")
    left.set(xlabel="messages", ylabel="seconds")
    left.legend()
    right.plot([at for at, _ in memory], [size / 1e9 for _, size in memory])
    right.set(xlabel=f"seconds, {counts[-1]:,} messages", ylabel="GB, all processes", ylim=(0, 2.5))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = [10_000, 30_000, 100_000, 300_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=default)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()

    from flows.settings import load_settings
    from tasks.scrub.detector import built

    workspace = Workspace.current()
    workspace.create()
    made = built(load_policy(None), load_settings(None).scrub.detector, workspace)
    assert made is not None
    sizes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.jsonl"
        for count in options.sizes:
            shutil.rmtree(folder / "home", ignore_errors=True)
            write(source, conversations(count // TURNS, seed=count))
            run = Run(source, folder / "home", made.path)
            run()
            sizes.append(
                {
                    "messages": count,
                    "seconds": round(run.seconds, 1),
                    "peak_mb": max(size for _, size in run.memory) // 2**20,
                    "account": run.account,
                    "accounted": accounted(source, run),
                    "shards": run.shards,
                }
            )
            print(json.dumps(sizes[-1]), flush=True)
        if options.plot:
            draw_plot(options.plot, sizes, run.memory)

        killed = Run(source, folder / "killed", made.path)
        ended = []
        for third in (1, 2):
            wanted = third * run.shards // 3
            ended.append(killed(lambda wanted=wanted: killed.shards >= wanted))  # type: ignore[misc]
        ended.append(killed())
        same = killed.account == run.account and accounted(source, killed)
        print(json.dumps({"ended": ended, "accounted": same}), flush=True)

        new = max(1, options.sizes[-1] // TURNS // 100)
        write(source, islice(conversations(new, seed=1), new), "a")
        grown = Run(source, folder / "home", made.path)
        grown()
        assert accounted(source, grown)
    print(
        json.dumps(
            {
                "ratios": {
                    "one_percent_more": round(grown.seconds / run.seconds, 4),
                    "time_a_message_largest_to_smallest": round(
                        sizes[-1]["seconds"]
                        / sizes[-1]["messages"]
                        / (sizes[0]["seconds"] / sizes[0]["messages"]),
                        3,
                    ),
                },
                "sizes": sizes,
                "killed_twice": {"ended": ended, "accounted": same},
                "grown_seconds": round(grown.seconds, 1),
                "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
            }
        )
    )


if __name__ == "__main__":
    main()
