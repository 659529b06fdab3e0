"""Evidently's embedding drift on the window pairs of bench.drift: QUESTIONS.npz -> verdicts."""

import json
import sys

import numpy as np
import pandas as pd
from evidently.legacy.metrics.data_drift.embedding_drift_methods import mmd, model, ratio

# Where nothing is said EmbeddingsDriftMetric takes `model`, with a bootstrap below 1,000 rows.
METHODS = {"evidently model (default)": None, "evidently ratio": ratio(), "evidently mmd": mmd()}

questions = np.load(sys.argv[1])
points = questions["points"]
verdicts: dict[str, dict[str, list[bool]]] = {name: {} for name in METHODS}
for key in json.loads(sys.argv[2]):
    pairs = list(zip(questions[f"{key} reference"], questions[f"{key} current"], strict=True))
    for name, method in METHODS.items():
        verdicts[name][key] = []
        for reference, current in pairs:
            # The methods write into what they are given.
            before, now = pd.DataFrame(points[reference]), pd.DataFrame(points[current])
            drift = method or model(bootstrap=len(reference) < 1000)
            _, drifted, _ = drift(now, before)
            verdicts[name][key].append(bool(drifted))
        print(name, key, float(np.mean(verdicts[name][key])), file=sys.stderr, flush=True)
print(json.dumps(verdicts))
