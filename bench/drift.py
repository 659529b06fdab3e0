"""Drift detection: false alarms and power of Evergreen's test, and of the plain RBF-MMD.

    python -m bench.drift [--nulls 500] [--draws 100] [--months 20]

Home traffic is one user message of each of the 7,168 conversations of `chitchat-dataset`, the
other topic the 177 distinct technical questions of `chatterbot-corpus`. Everything is embedded
once; windows are then drawn without replacement, reference and window disjoint. The last line
is one JSON object.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch
from scipy.stats import binomtest

from flows.traffic import technical_conversations
from models.encoder import Encoder, EncoderSettings
from tasks.drift.two_sample import Floats, two_sample
from tasks.sources import chitchat_rows

PERMUTATIONS = 499
Test = Callable[[Floats, Floats, int], float]


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
    """Draws windows."""

    def __init__(self, home: Floats, foreign: Floats, seed: int) -> None:
        self.home, self.foreign = home, foreign
        self.draw = np.random.default_rng(seed)

    def pair(self, reference: int, current: int, share: float) -> tuple[Floats, Floats]:
        order = self.draw.permutation(len(self.home))
        other = round(share * current)
        chosen = self.draw.choice(len(self.foreign), other, replace=other > len(self.foreign))
        own = order[reference : reference + current - other]
        return self.home[order[:reference]], np.concatenate([self.home[own], self.foreign[chosen]])


def rejections(p_values: list[float], alpha: float) -> dict[str, Any]:
    hits = sum(p <= alpha for p in p_values)
    interval = binomtest(hits, len(p_values)).proportion_ci(method="wilson")
    return {
        "rate": round(hits / len(p_values), 4),
        "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        "windows": len(p_values),
    }


def months(source: Source, count: int, alpha: float) -> dict[str, Any]:
    """Hourly watching for 30 days against one reference of 2,000, without any drift.

    Each window is drawn anew from the 5,168 conversations that are not in the reference. An
    episode opens when 2 of 3 windows drift and closes after 3 quiet ones, as by default.
    """
    episodes, alarms = [], []
    for _ in range(count):
        order = source.draw.permutation(len(source.home))
        reference, rest = source.home[order[:2000]], order[2000:]
        drifted = []
        for hour in range(720):
            window = source.home[source.draw.choice(rest, 500, replace=False)]
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
    parser.add_argument("--nulls", type=int, default=500)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--months", type=int, default=20)
    options = parser.parse_args()
    home, foreign, rate = embed()
    source = Source(home, foreign, seed=1)
    result: dict[str, Any] = {"benchmark": "drift", "texts_per_second": round(rate)}
    result["false_alarms"] = {}
    for size in (200, 500):
        pairs = [source.pair(size, size, 0.0) for _ in range(options.nulls)]
        for name, test in TESTS.items():
            p_values = [test(*pair, number) for number, pair in enumerate(pairs)]
            for alpha in (0.05, 0.01):
                key = f"{name} n={size} alpha={alpha}"
                result["false_alarms"][key] = rejections(p_values, alpha)
                print(key, result["false_alarms"][key], flush=True)
    result["power"] = {}
    for reference, size in ((200, 200), (500, 500), (2000, 500), (2000, 2000)):
        for share in (0.05, 0.1, 0.25, 0.5):
            pairs = [source.pair(reference, size, share) for _ in range(options.draws)]
            for name, test in TESTS.items():
                p_values = [test(*pair, number) for number, pair in enumerate(pairs)]
                key = f"{name} n={reference}/{size} share={share}"
                result["power"][key] = rejections(p_values, 0.05)
                print(key, result["power"][key], flush=True)
    if options.months:
        result["month"] = months(source, options.months, 0.01)
    result["ratios"] = {
        "power_at_500_and_10_percent": round(
            result["power"]["evergreen n=500/500 share=0.1"]["rate"]
            / max(result["power"]["rbf_mmd n=500/500 share=0.1"]["rate"], 0.01),
            2,
        )
    }
    result["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
