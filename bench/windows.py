"""Reading inference logs: records a second and memory as a window grows.

    python -m bench.windows [--sizes 10000 30000 100000]

Each size in a process of its own: one hour of logs of the Data Flywheel's shape in a JSONL
file, looked through, cut into a window, and the window's sample read. What follows (scrub,
embedding, tests) takes the sample, whose size does not grow. The last line is one JSON object.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

SAMPLE = 2000


def write(path: Path, count: int) -> None:
    start = 1_700_000_000 // 3600 * 3600
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            question = f"question {number}: " + "how does one do this, and why? " * 5
            row = {
                "timestamp": start + 3600 * number // count,
                "workload_id": "chat",
                "client_id": "c",
                "request": {"model": "m", "messages": [{"role": "user", "content": question}]},
                "response": {
                    "id": f"r{number}",
                    "choices": [{"message": {"role": "assistant", "content": "so. " * 40}}],
                },
            }
            file.write(json.dumps(row) + "\n")


def measure(path: str, pipe: Any) -> None:
    from tasks.logs import WatchSettings, cut, look, read

    settings = WatchSettings(max_records=SAMPLE)
    process = psutil.Process()
    idle = process.memory_info().rss
    started = time.perf_counter()
    now = datetime.now(UTC)
    pending = look(
        path, settings, now=now, known=lambda _: set(), finished=lambda _: False, newest=None
    )
    windows, _ = cut(pending, settings, now)
    looked = time.perf_counter() - started
    chosen = windows[0].sample(SAMPLE)
    records = sum(1 for _ in read(pending.files, chosen))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send(
        {
            "records": len(windows[0].entries),
            "records_per_second": round(len(windows[0].entries) / looked),
            "sample": records,
            "seconds": round(time.perf_counter() - started, 2),
            "idle_mb": round(idle / 1e6),
            "peak_mb": round(peak / 1e6),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "log.jsonl"
            write(file, size)
            mine, theirs = spawn.Pipe()
            job = spawn.Process(target=measure, args=(str(file), theirs))
            job.start()
            rows.append(mine.recv())
            job.join()
            print(rows[-1], flush=True)
    first, last = rows[0], rows[-1]
    grown = last["records"] / first["records"]
    result = {
        "benchmark": "windows",
        "sizes": rows,
        "ratios": {
            "time_against_linear": round(last["seconds"] / first["seconds"] / grown, 2),
            "bytes_a_record": round(
                1e6 * (last["peak_mb"] - first["peak_mb"]) / (last["records"] - first["records"])
            ),
        },
        "machine": {"cpu": platform.machine(), "cores": psutil.cpu_count()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
