"""Drift detection: false alarms and power of Evergreen's test, plain RBF-MMD and the peers.

    python -m bench.drift [--nulls 1000] [--draws 100] [--peer-nulls 200] [--months 5]

Home traffic is one user message of each of the 7,168 conversations of `chitchat-dataset`, the
other topic the 177 distinct technical questions of `chatterbot-corpus`. Everything is embedded
once; windows are then drawn without replacement, reference and window disjoint, and every test
sees the same, but that the peers, which are slow, see the first of the nulls only. Evidently and
alibi-detect run in environments of their own (`bench/peers`, made below `build/`). The last line
is one JSON object.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from bench.peers.environment import PEERS, python_of
from flows.traffic import technical_conversations
from models.encoder import Encoder, EncoderSettings
from tasks.drift.two_sample import Floats, two_sample
from tasks.sources import chitchat_rows

PERMUTATIONS = 499
Test = Callable[[Floats, Floats, int], float]
Rows = NDArray[np.int64]
Questions = dict[str, list[tuple[Rows, Rows]]]  # what is asked -> (reference, current) pairs


def evergreen(reference: Floats, current: Floats, seed: int) -> float:
    return two_sample(reference, current, permutations=PERMUTATIONS, seed=seed).p_value


def rbf_mmd(reference: Floats, current: Floats, seed: int) -> float:
    """Permutation MMD with a Gaussian kernel at the median distance (Gretton et al., 2012)."""
    draw = np.random.default_rng(seed)
    points = np.concatenate([reference, current])
    squared = np.maximum(2 - 2 * points @ points.T, 0)
    kernel = np.exp(-squared / np.median(squared))
    weights = np.repeat([1 / len(reference), -1 / len(current)], [len(reference), len(current)])
    rows = draw.permuted(np.tile(weights, (PERMUTATIONS + 1, 1)), axis=1)
    rows[0] = weights
    values = np.einsum("bn,bn->b", rows @ kernel, rows)
    return float((values >= values[0] - 1e-12).mean())


TESTS: dict[str, Test] = {"evergreen": evergreen, "rbf_mmd": rbf_mmd}


def embed() -> tuple[Floats, Floats, float]:
    """(home, foreign, distinct texts a second)"""
    draw = np.random.default_rng(0)
    home = []
    for row in chitchat_rows():
        said = [m["content"] for m in row["messages"] if m["role"] == "user"]
        if said:
            home.append(said[draw.integers(len(said))])
    foreign = sorted({str(turns[0]["content"]) for turns in technical_conversations()})
    encoder = Encoder(EncoderSettings())
    started = time.perf_counter()
    vectors = encoder.encode(home)
    rate = len(set(home)) / (time.perf_counter() - started)
    return vectors, encoder.encode(foreign), rate


class Source:
    """Draws windows: row numbers of `points`, where the home messages come first."""

    def __init__(self, home: Floats, foreign: Floats, seed: int) -> None:
        self.points = np.concatenate([home, foreign])
        self.home, self.foreign = len(home), len(foreign)
        self.draw = np.random.default_rng(seed)

    def pair(self, reference: int, current: int, share: float) -> tuple[Rows, Rows]:
        order = self.draw.permutation(self.home)
        other = round(share * current)
        chosen = self.draw.choice(self.foreign, other, replace=other > self.foreign)
        own = order[reference : reference + current - other]
        return order[:reference], np.concatenate([own, self.home + chosen])


def ours(name: str, questions: Questions, points: Floats) -> dict[str, list[bool]]:
    """Whether the test rejects at 0.05, and, where nothing differs, at 0.01."""
    answers: dict[str, list[bool]] = {}
    for key, pairs in questions.items():
        p_values = [
            TESTS[name](points[reference], points[current], number)
            for number, (reference, current) in enumerate(pairs)
        ]
        answers[key] = [p <= 0.05 for p in p_values]
        if key.startswith("null"):
            answers[f"{key} at 0.01"] = [p <= 0.01 for p in p_values]
        print(name, key, float(np.mean(answers[key])), flush=True)
    return answers


def peer(name: str, questions: Questions, points: Floats) -> dict[str, dict[str, list[bool]]]:
    """The verdicts of the peer's methods on the same windows, from an environment of its own."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        arrays = {"points": points}
        for key, pairs in questions.items():
            arrays[f"{key} reference"] = np.stack([reference for reference, _ in pairs])
            arrays[f"{key} current"] = np.stack([current for _, current in pairs])
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        script = [
            str(python_of(name)),
            str(PEERS / f"{name}_drift.py"),
            file.name,
            json.dumps(list(questions)),
        ]
        done = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True)
    verdicts: dict[str, dict[str, list[bool]]] = json.loads(done.stdout.splitlines()[-1])
    return verdicts


def share(rejected: list[bool]) -> dict[str, Any]:
    interval = binomtest(sum(rejected), len(rejected)).proportion_ci(method="wilson")
    return {
        "rate": round(sum(rejected) / len(rejected), 4),
        "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        "windows": len(rejected),
    }


def months(source: Source, count: int, alpha: float) -> dict[str, Any]:
    """Hourly watching for 30 days against one reference of 2,000, without any drift.

    Each window is drawn anew from the 5,168 conversations that are not in the reference. An
    episode opens when 2 of 3 windows drift and closes after 3 quiet ones, as by default.
    """
    episodes, alarms = [], []
    for _ in range(count):
        order = source.draw.permutation(source.home)
        reference, rest = source.points[order[:2000]], order[2000:]
        drifted = []
        for hour in range(720):
            window = source.points[source.draw.choice(rest, 500, replace=False)]
            p = two_sample(reference, window, permutations=199, seed=hour).p_value
            # 199 permutations cannot show p below 0.005; alpha is 0.01.
            drifted.append(p <= alpha)
        is_open, opened = False, 0
        for hour in range(720):
            last = drifted[max(0, hour - 2) : hour + 1]
            if not is_open and drifted[hour] and sum(last) >= 2:
                is_open, opened = True, opened + 1
            elif is_open and len(last) == 3 and not any(last):
                is_open = False
        episodes.append(opened)
        alarms.append(sum(drifted) / 720)
        print(f"month {len(episodes)}: {opened} episodes, {alarms[-1]:.4f} of windows", flush=True)
    return {
        "months": count,
        "alpha": alpha,
        "episodes_a_month": round(float(np.mean(episodes)), 3),
        "most": int(max(episodes)),
        "months_without": int(sum(opened == 0 for opened in episodes)),
        "windows_drifted": round(float(np.mean(alarms)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nulls", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--peer-nulls", type=int, default=200)
    parser.add_argument("--months", type=int, default=5)
    options = parser.parse_args()
    home, foreign, rate = embed()
    source = Source(home, foreign, seed=1)
    questions: Questions = {}
    for size in (200, 500):
        key = f"null {size}/{size}"
        questions[key] = [source.pair(size, size, 0.0) for _ in range(options.nulls)]
    for reference, size in ((200, 200), (500, 500), (2000, 500)):
        for other in (0.05, 0.1, 0.25, 0.5):
            key = f"{other:.0%} of another topic {reference}/{size}"
            questions[key] = [source.pair(reference, size, other) for _ in range(options.draws)]
    verdicts = {name: ours(name, questions, source.points) for name in TESTS}
    fewer = {
        key: pairs[: options.peer_nulls] if key.startswith("null") else pairs
        for key, pairs in questions.items()
    }
    for name in ("evidently", "alibi_detect"):
        verdicts |= peer(name, fewer, source.points)
    rejected = {
        name: {key: share(one) for key, one in answers.items()}
        for name, answers in verdicts.items()
    }
    result: dict[str, Any] = {
        "benchmark": "drift",
        "texts_per_second": round(rate),
        "alpha": 0.05,
        "permutations": PERMUTATIONS,
        "rejected": rejected,
    }
    if options.months:
        result["month"] = months(source, options.months, 0.01)
    hard = "10% of another topic 500/500"
    result["ratios"] = {
        f"power at {hard}: evergreen to {name}": round(
            rejected["evergreen"][hard]["rate"] / max(one[hard]["rate"], 1 / options.draws), 2
        )
        for name, one in rejected.items()
        if name != "evergreen"
    }
    result["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
