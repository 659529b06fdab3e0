"""The model card: a README in the form that the Hugging Face hub reads, of measured numbers."""

import math
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from models.base import BUNDLED
from tasks.decide import Gate, Verdict
from tasks.decide.page import grouped, model_rows
from tasks.evaluate import METRICS, Evaluation
from tasks.evaluate.measures import mean
from tasks.lineage import Lineage
from tasks.markdown import table
from tasks.registry import Version
from tasks.vllm import Serving
from tasks.why import DECIDED, asker, beyond_gates, cost, had_to, measured, rows

# What the bundled base was made of, by way of a file with 4 bits a weight.
UPSTREAM = {BUNDLED: "HuggingFaceTB/SmolLM2-135M-Instruct"}


def model_card(lineage: Lineage, evaluation: Evaluation, verdict: Verdict) -> str:
    """A README.md with a YAML header. It holds numbers, digests and names, no text of anybody.

    Args:
        lineage: where the adapter comes from.
        evaluation: what was measured of it, its champion and its base.
        verdict: how it was judged.
    """
    body = _render(
        "card.md.j2",
        lineage=lineage,
        evaluation=evaluation,
        verdict=verdict,
        decided=DECIDED[verdict.decision],
        said=beyond_gates(verdict),
        asker=asker(lineage.asked),
        cost=cost(lineage),
        rows=rows,
        upstream=UPSTREAM.get(lineage.base.id),
        red_team=len(evaluation.challenger.of("red team", "safe")),
        exposed=len(evaluation.challenger.of("canaries", "exposure")),
        models=table(model_rows(evaluation)),
        gates=table(_gate_rows(verdict)) if verdict.gates else "There were none.",
        snapshots=table(_snapshot_rows(lineage)),
    )
    return str(ModelCard(f"---\n{header(lineage, evaluation).to_yaml()}\n---\n\n{body}"))


def header(lineage: Lineage, evaluation: Evaluation) -> ModelCardData:
    """What the hub shows and searches. A base that the hub does not have is left out: it would
    refuse the card."""
    base = lineage.base.hub or UPSTREAM.get(lineage.base.id)
    return ModelCardData(
        model_name=lineage.model,
        library_name="peft",
        pipeline_tag="text-generation",
        base_model=base,
        tags=["evergreen", "lora", "peft", "conversational"],
        eval_results=list(_results(lineage, evaluation)) or None,
        **({"base_model_relation": "adapter"} if base else {}),
    )


def export_card(
    card: str | None,
    version: Version,
    serving: Serving,
    chat_template_kwargs: Mapping[str, Any],
    *,
    merged: bool,
) -> str:
    """The README of an export: how to load what is in the folder, and the version's card if any.

    Args:
        card: as `model_card` made it; None of a version that has none.
        version: what was exported.
        serving: what vLLM makes of it.
        chat_template_kwargs: with which it was trained and judged.
        merged: whether the folder holds the whole model.
    """
    made = ModelCard(card) if card else ModelCard("---\npipeline_tag: text-generation\n---\n\n")
    made.data.library_name = "transformers" if merged else "peft"
    if merged:
        made.data.tags = ["evergreen", "conversational"]
        if made.data.get("base_model"):
            made.data.base_model_relation = "finetune"
    export = _render(
        "export.md.j2",
        version=version,
        merged=merged,
        serving=serving,
        chat_template_kwargs=dict(chat_template_kwargs),
    )
    made.text = f"\n{export}{made.text}"
    return str(made)


def _render(name: str, **values: Any) -> str:
    environment = Environment(  # noqa: S701 - Markdown
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("tasks").joinpath(name).read_text("utf-8")
    return environment.from_string(template).render(values)


def _results(lineage: Lineage, evaluation: Evaluation) -> Iterator[EvalResult]:
    score = evaluation.challenger
    for name, metrics in score.measures.items():
        found: dict[str, tuple[float, str]] = {
            metric: (mean(measures), METRICS[metric].unit) for metric, measures in metrics.items()
        }
        if name == "holdout" and "loss" in found:
            found["perplexity"] = (score.perplexity, "exp of the loss")
        for metric, (value, unit) in found.items():
            if math.isfinite(value):
                yield EvalResult(
                    task_type="text-generation",
                    dataset_type="evergreen",
                    dataset_name=name,
                    dataset_revision=lineage.evaluation_sets.get(name),
                    metric_type=metric,
                    metric_name=f"{metric} ({unit})",
                    metric_value=round(value, 6),
                )


def _gate_rows(verdict: Verdict) -> list[dict[str, Any]]:
    topics = _topics(verdict)
    return [
        {
            "gate": gate.name,
            "slice": topics.get(gate.slice or "", gate.slice or "all"),
            "what is asked": had_to(gate),
            "measured": measured(gate),
            "p": _p_value(gate),
            "outcome": title.lower(),
        }
        for title, gates in grouped(verdict.gates)
        for gate in gates
    ]


def _p_value(gate: Gate) -> str:
    return "-" if gate.deciding_p is None else f"{gate.deciding_p:.2g}"


def _topics(verdict: Verdict) -> dict[str, str]:
    """{slice: a number for it}: topics are named by words of conversations."""
    found = dict.fromkeys(
        gate.slice for gate in verdict.gates if (gate.slice or "").startswith("topic=")
    )
    return {str(name): f"topic {number}" for number, name in enumerate(found, 1)}


def _snapshot_rows(lineage: Lineage) -> list[dict[str, Any]]:
    """From what was trained on and judged by back to the scrub."""
    made = {one.digest: one for one in (*lineage.train, *lineage.holdout)}
    return [
        {
            "stage": one.stage or "unknown",
            "conversations": one.account.rows_out,
            "rows": str(one.account),
            "digest": one.digest,
            "made of": (one.parent or "the sources")[:16],
        }
        for one in made.values()
    ]
