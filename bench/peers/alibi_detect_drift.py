"""alibi-detect's tests on the window pairs of bench.drift: QUESTIONS.npz -> verdicts."""

import json
import logging
import sys
import warnings

import numpy as np
from alibi_detect.cd import ClassifierDrift, MMDDrift
from sklearn.linear_model import LogisticRegression

logging.disable(logging.WARNING)  # one a window otherwise
warnings.simplefilter("ignore")
METHODS = {
    "alibi-detect MMDDrift": lambda reference: MMDDrift(reference, backend="pytorch", p_val=0.05),
    "alibi-detect ClassifierDrift": lambda reference: ClassifierDrift(
        reference, LogisticRegression(), backend="sklearn", p_val=0.05, n_folds=5
    ),
}

questions = np.load(sys.argv[1])
points = questions["points"]
verdicts: dict[str, dict[str, list[bool]]] = {name: {} for name in METHODS}
for key in json.loads(sys.argv[2]):
    pairs = list(zip(questions[f"{key} reference"], questions[f"{key} current"], strict=True))
    for name, method in METHODS.items():
        verdicts[name][key] = [
            bool(method(points[reference]).predict(points[current])["data"]["is_drift"])
            for reference, current in pairs
        ]
        print(name, key, float(np.mean(verdicts[name][key])), file=sys.stderr, flush=True)
print(json.dumps(verdicts))
