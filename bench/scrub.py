"""Scrubbing speed: texts a second beside stock Presidio, and what each step of ours gives.

    python -m bench.scrub [--chats 2000] [--messages 20000] [--peer 300]

Two kinds of text: chats of 138 words, no two alike, and the messages of human conversations as
they come, with what people repeat. The peer is `BatchAnalyzerEngine` at its defaults over the small
spaCy model. It only finds; the last rows of ours also read, replace, account for and write. The
peer, which is slow, sees the first texts only. Every contender is warm, but for the whole command,
whose time includes its start. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import psutil
from presidio_analyzer import BatchAnalyzerEngine

from bench.peers.presidio import stock
from data_contracts.policy import ScrubPolicy, load_policy
from data_contracts.workspace import Workspace

WORDS = 138


def messages() -> Iterator[str]:
    from tasks.sources import chitchat_rows

    return (message["content"] for row in chitchat_rows() for message in row["messages"])


def chats(count: int) -> list[str]:
    """Texts of `WORDS` words from conversations, no two alike."""
    words = chain.from_iterable(text.split() for text in dict.fromkeys(messages()))
    made = (" ".join(islice(words, WORDS)) for _ in range(count))
    return list(dict.fromkeys(made))


def per_second(texts: Sequence[str], work: Callable[[Sequence[str]], Any]) -> float:
    work(texts[:20])
    started = time.perf_counter()
    work(texts)
    return len(texts) / (time.perf_counter() - started)


def steps(
    texts: Sequence[str], policy: ScrubPolicy, detector: Any, workers: int
) -> Iterator[tuple[str, float]]:
    """(what is done, texts a second), each step with one thing more than the one before."""
    import torch

    from tasks.scrub.finder import Finder
    from tasks.scrub.workers import Search, WorkerSettings, batches, done, find, searching

    torch.set_num_threads(1)
    patterns = policy.model_copy(update={"detector": False})
    folder = Path(detector.path)

    def in_batches(finder: Finder) -> Callable[[Sequence[str]], Any]:
        return lambda some: [finder.find(batch) for batch in batches(some)]

    yield (
        "recognisers alone, gated, no spaCy",
        per_second(texts, in_batches(Finder(patterns, None))),
    )
    both = Finder(policy, folder)
    yield (
        "+ detector, a text at a time",
        per_second(texts[:2000], lambda some: [both.find([text]) for text in some]),
    )
    yield "+ in batches", per_second(texts, in_batches(both))
    asked_for = policy.model_dump_json(), folder
    alone = Search(policy, lambda batch: done(find(*asked_for, batch)))
    yield "+ each text once", per_second(texts, lambda some: alone.ask(some).wait())
    with searching(policy, detector, WorkerSettings(count=workers)) as pool:
        warm = [f"{text} so it is" for text in texts[:2000]]
        pool.ask(warm).wait()
        pool.known.clear()
        yield f"+ {workers} worker processes", per_second(texts, lambda some: pool.ask(some).wait())


def whole(texts: Sequence[str], detector: Any) -> Iterator[tuple[str, float]]:
    """`evergreen scrub`, file to file, in a home without shards; then once more."""
    with tempfile.TemporaryDirectory() as folder:
        home = {"EVERGREEN_HOME": folder, "EVERGREEN_SCRUB__DETECTOR__FOLDER": detector.path}
        source = Path(folder) / "in.jsonl"
        rows = ({"messages": [{"role": "user", "content": text}]} for text in texts)
        source.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        for name in ("the whole command", "the whole command, again"):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "flows.cli", "scrub", source, Path(folder) / "out.jsonl"],
                env=os.environ | home,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            yield name, len(texts) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=2000)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--peer", type=int, default=300)
    parser.add_argument("--workers", type=int, default=psutil.cpu_count() or 1)
    options = parser.parse_args()

    engine = BatchAnalyzerEngine(stock())  # before what is ours, see there

    from flows.settings import load_settings
    from tasks.scrub.detector import built

    policy, workspace = load_policy(None), Workspace.current()
    workspace.create()
    detector = built(policy, load_settings(None).scrub.detector, workspace)
    result: dict[str, Any] = {"ratios": {}, "per_second": {}}
    for kind, texts, peers in (
        ("chats", chats(options.chats), options.peer),
        ("messages", list(islice(messages(), options.messages)), 10 * options.peer),
    ):
        base = per_second(texts[:peers], lambda some: list(engine.analyze_iterator(some, "en")))
        speeds = {"BatchAnalyzerEngine": base}
        print(f"\n{kind}: {len(texts)}, {len(set(texts))} distinct\n")
        print(f"| step | {kind} a second | times |\n|---|---|---|")
        print(f"| BatchAnalyzerEngine, {len(texts[:peers])} {kind} | {base:.0f} | 1 |", flush=True)
        for name, speed in chain(
            steps(texts, policy, detector, options.workers), whole(texts, detector)
        ):
            speeds[name] = speed
            print(f"| {name} | {speed:,.0f} | {speed / base:.1f} |", flush=True)
        result["per_second"][kind] = {name: round(speed, 1) for name, speed in speeds.items()}
        result["ratios"] |= {
            f"{kind}_found": speeds[f"+ {options.workers} worker processes"] / base,
            f"{kind}_whole": speeds["the whole command"] / base,
        }
    result["sizes"] = {"chats": options.chats, "messages": options.messages, "peer": options.peer}
    result["machine"] = {"cpu": platform.machine(), "cores": psutil.cpu_count()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
