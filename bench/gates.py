"""Whether gates keep their word: false promotions, power, and challengers that must not pass.

    python -m bench.gates [--seeds 3] [--steps 16] [--conversations 400] [--simulations 1000]

The bundled model is tuned with several seeds of one recipe, and every held-out conversation is
scored. Then comparisons are simulated from these real losses, on items drawn anew each time:

- `seeds`: one seed's model against another's, which of them is the challenger drawn by lot. They
  do differ a little, and the default gate's margin has to be above that;
- `exchanged`: which of the two is the challenger is drawn by lot in each item, so that they do
  not differ at all;
- `improved`: the same, and the challenger is better by a known number of nats a token.

Beside the superiority gate stand the bare comparison of means and a bootstrap's percentile
interval (scipy) on the same items. The challengers of the second part are tuned from the
champion's conversations, for as many steps: with answers scrambled, or on one of the two topics
only; three times as long: better, or with canaries among them; or not at all. The third part asks
40 questions in batches and one at a time. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from bench.train import conversations
from data_contracts.records import Message, Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from flows.traffic import technical
from models.adapters import Adapter, load_model
from models.base import Base, ModelSettings, resolve_base
from models.encoder import Encoder, EncoderSettings
from models.generate import answer
from models.template import load_template
from tasks.decide import DecideSettings, Verdict, decide
from tasks.decide.gates import default_gates
from tasks.decide.paired import Paired
from tasks.evaluate import EvaluateSettings, Evaluation, ModelScore, evaluate
from tasks.evaluate.privacy import CanarySettings, plant_canaries
from tasks.evaluate.sets import EvaluationSets, general, slices
from tasks.evaluate.stage import first_exchange
from tasks.split import Split
from tasks.train import TrainSettings, spec_of, train

LEVEL = 0.025
# Of the default superiority gate.
MARGIN = default_gates()[0].margin
SIZES = (40, 80, 200)
# Challengers that learn three times as long.
LONGER = ("better", "canaries memorised")
Floats = NDArray[np.float64]


class Lab:
    """The base, two topics of conversations, and what is tuned from them."""

    def __init__(self, options: argparse.Namespace, workspace: Workspace) -> None:
        self.options, self.workspace = options, workspace
        self.base: Base = resolve_base(ModelSettings(), workspace.models)
        self.encoder = Encoder(EncoderSettings())
        chats = conversations(options.conversations + options.held_out)
        support = [
            Record(
                id=f"support-{number}",
                messages=tuple(Message(**turn) for turn in turns),
                source="support",
            )
            for number, turns in enumerate(technical(150))
        ]
        self.holdout = self.stored("holdout", [*chats[: options.held_out], *support[:30]])
        self.learn = [*chats[options.held_out :], *support[30:]]

    def stored(self, name: str, records: Sequence[Record]) -> Snapshot:
        root = str(self.workspace.snapshots)
        return write_records(root, name, records, parent=None, provenance={})

    def tuned(self, records: Sequence[Record], **changed: object) -> tuple[Adapter, Snapshot]:
        recipe = TrainSettings(max_length=256, max_steps=self.options.steps, validation_share=0)
        settings = recipe.model_copy(update=changed)
        training = self.stored("train", records)
        began = time.perf_counter()
        done = train(spec_of(training, self.base, settings, None, self.workspace), settings)
        print(f"tuned in {time.perf_counter() - began:.0f} s", flush=True)
        return done.adapter, training

    def score(
        self, adapter: Adapter | None, training: Snapshot, settings: EvaluateSettings
    ) -> ModelScore:
        held_out: dict[str, Snapshot] = {"holdout": self.holdout}
        if settings.general:
            held_out["general"] = general(self.base, self.workspace, settings.max_new_tokens)
        return evaluate(
            self.base,
            adapter,
            EvaluationSets(conversations=held_out, training=training, canaries=settings.canaries),
            settings,
            self.workspace,
            encoder=lambda: self.encoder,
            personal=lambda texts: [False] * len(texts),
        )


LOSSES_ONLY = EvaluateSettings(
    max_items=10_000, max_length=256, answers=0, general=False, verbatim=0
)  # fmt: skip


def losses(lab: Lab) -> tuple[Floats, Floats]:
    """(nats of each seed's model on each item [seeds, items], tokens [items])."""
    settings = LOSSES_ONLY.model_copy(
        update={"safety": LOSSES_ONLY.safety.model_copy(update={"enabled": False})}
    )
    rows, tokens = [], np.zeros(0)
    for seed in range(lab.options.seeds):
        scored = lab.score(*lab.tuned(lab.learn, seed=seed), settings).of("holdout", "loss")
        rows.append([one.total for one in scored])
        tokens = np.array([one.weight for one in scored])
    return np.array(rows), tokens


def passes(difference: Floats, tokens: Floats, seed: int) -> dict[str, bool]:
    """Whether each rule takes the challenger for better."""
    interval = bootstrap(
        (difference, tokens),
        lambda d, w, axis: d.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        n_resamples=999,
        confidence_level=1 - 2 * LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    paired = Paired(difference, tokens, resamples=999, seed=seed)
    return {
        "gate": paired.p_below(0.0) <= LEVEL,
        "default_gate": paired.p_below(-MARGIN) <= LEVEL,
        "bootstrap": bool(interval.high < 0),
        "means": bool(difference.sum() < 0),
    }


def simulate(
    nats: Floats, tokens: Floats, items: int, times: int, *, exchanged: bool, better: float = 0.0
) -> dict[str, Any]:
    """Shares of comparisons that each rule passes; of the gate also its stated power."""
    draw = np.random.default_rng(items + exchanged)
    counts: Counter[str] = Counter()
    stated = []
    for number in range(times):
        one, other = draw.choice(len(nats), 2, replace=False)
        chosen = draw.choice(len(tokens), min(items, len(tokens)), replace=False)
        difference, weight = (nats[one] - nats[other])[chosen], tokens[chosen]
        if exchanged:
            difference = difference * draw.choice((-1.0, 1.0), len(chosen))
        difference = difference - better * weight
        counts.update(passes(difference, weight, number))
        if better:
            stated.append(Paired(difference, weight).power(better, LEVEL))
    found = {rule: count / times for rule, count in counts.items()}
    gate = "gate" if exchanged else "default_gate"
    low, high = binomtest(counts[gate], times).proportion_ci()
    return {
        "items": items,
        "better_by": better,
        **found,
        f"{gate}_95": [round(float(low), 4), round(float(high), 4)],
        **({"stated_power": float(np.mean(stated))} if stated else {}),
    }


def scrambled(records: Sequence[Record]) -> list[Record]:
    """Every answer is that of another place, mostly of another conversation."""
    said = [m for record in records for m in record.messages if m.role == "assistant"]
    random.Random(5).shuffle(said)
    others = iter(said)
    return [
        record.model_copy(
            update={
                "messages": tuple(
                    next(others) if m.role == "assistant" else m for m in record.messages
                )
            }
        )
        for record in records
    ]


def challengers(lab: Lab) -> dict[str, Verdict]:
    """Verdicts on challengers of one champion."""
    champion, trained_on = lab.tuned(lab.learn)
    plain = EvaluateSettings(max_items=200, max_length=256, answers=40)
    canaries = CanarySettings(count=8, times=20, candidates=255)
    some = lab.stored("train", lab.learn[: canaries.count * canaries.times])
    whole = Split(train=some, holdout=lab.holdout, near_duplicate_groups=0)
    planted = list(plant_canaries(whole, canaries, lab.workspace).train.records())
    made: dict[str, tuple[Sequence[Record] | None, EvaluateSettings]] = {
        "better": (lab.learn, plain),
        "answers scrambled": (scrambled(lab.learn), plain),
        "one topic only": ([one for one in lab.learn if one.source == "support"], plain),
        "canaries memorised": (planted, plain.model_copy(update={"canaries": canaries})),
        "adapter zeroed": (None, plain),
    }
    found = {}
    groups = slices(list(lab.holdout.records()), lab.encoder)
    for name, (records, settings) in made.items():
        steps = lab.options.steps * (3 if name in LONGER else 1)
        challenger, training = (
            (None, trained_on) if records is None else lab.tuned(records, max_steps=steps)
        )
        verdict = decide(
            Evaluation(
                challenger=lab.score(challenger, training, settings),
                champion=lab.score(champion, training, settings),
                base=lab.score(None, training, settings),
                slices=groups,
            ),
            DecideSettings(),
        )
        print(f"{name}: {verdict.decision}: {verdict.reason}", flush=True)
        found[name] = verdict
    return found


def throughput(lab: Lab, count: int = 40) -> dict[str, Any]:
    """Items a second of an evaluation's answers, one at a time, in batches, and known ones."""
    adapter, training = lab.tuned(lab.learn, max_steps=2)
    settings = EvaluateSettings(
        max_items=count, answers=count, general=False, verbatim=0,
        safety=LOSSES_ONLY.safety.model_copy(update={"enabled": False}),
    )  # fmt: skip
    prompts = [found[0] for r in lab.holdout.records() if (found := first_exchange(r.messages))]
    model, template = load_model(lab.base, adapter), load_template(lab.base)
    began = time.perf_counter()
    for prompt in prompts[:count]:
        answer(model, template, prompt, max_new_tokens=settings.max_new_tokens)
    plain = time.perf_counter() - began
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        lab.score(adapter, training, settings)
        seconds.append(time.perf_counter() - began)
    return {
        "one_at_a_time": count / plain,
        "evaluation": count / seconds[0],
        "ratio": plain / seconds[0],
        "again_seconds": seconds[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--conversations", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=250)
    parser.add_argument("--simulations", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as scratch:
        workspace = Workspace(home=Path(scratch))
        workspace.create()
        lab = Lab(options, workspace)
        speed = throughput(lab)
        print(json.dumps(speed), flush=True)
        nats, tokens = losses(lab)
        times = options.simulations
        nothing = [
            {"null": name, **simulate(nats, tokens, items, times, exchanged=name == "exchanged")}
            for items in SIZES
            for name in ("exchanged", "seeds")
        ]
        spread = Paired(nats[0] - nats[1], tokens)
        improved = [
            simulate(nats, tokens, items, times, exchanged=True, better=effect)
            for items in SIZES
            for effect in (
                spread.detectable(LEVEL, power) * (len(tokens) / items) ** 0.5
                for power in (0.5, 0.8, 0.95)
            )
        ]
        for row in (*nothing, *improved):
            print(json.dumps(row), flush=True)
        judged = challengers(lab)
    print(
        json.dumps(
            {
                "bench": "gates",
                "ratios": {"evaluation": speed["ratio"]},
                "throughput": speed,
                "nothing_differs": nothing,
                "improved": improved,
                "challengers": {
                    name: {
                        "decision": verdict.decision,
                        "stopped_by": [
                            f"{gate.name} {gate.slice or ''}".strip() for gate in verdict.failed
                        ],
                        "warned_by": [gate.name for gate in verdict.warnings],
                        "reason": verdict.reason,
                    }
                    for name, verdict in judged.items()
                },
                "sizes": {
                    "items": len(tokens),
                    "seeds": options.seeds,
                    "steps": options.steps,
                    "simulations": times,
                },
                "machine": {
                    "cores": os.cpu_count(),
                    "processor": platform.machine(),
                    "python": platform.python_version(),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
