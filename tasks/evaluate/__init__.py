"""Evaluate: challenger, champion and base on the same frozen sets."""

from tasks.evaluate.measures import METRICS, Evaluation, Measure, MetricName, ModelScore
from tasks.evaluate.stage import EvaluateSettings, evaluate, evaluate_task

__all__ = [
    "METRICS",
    "EvaluateSettings",
    "Evaluation",
    "Measure",
    "MetricName",
    "ModelScore",
    "evaluate",
    "evaluate_task",
]
