"""What one retrain did, as data, as Markdown for the Prefect UI, and as tables."""

from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.snapshots import RowAccount
from data_contracts.workspace import HomePath
from models.spec import FinetuneMetrics
from tasks.decide import Verdict
from tasks.decide.verdict import number
from tasks.evaluate import Evaluation
from tasks.ledger.requests import Request
from tasks.markdown import cell, table
from tasks.promote import Promotion
from tasks.replay import NewData
from tasks.scrub import ScrubReport
from tasks.scrub.report import found_tables


class RetrainReport(BaseModel):
    """Everything a person or a script wants to know about a retrain. No text of any row
    but the sample answers, which are scrubbed, and which no artifact shows.

    `page` is a file of the home: the verdict with sample answers.
    """

    model_config = ConfigDict(frozen=True)

    flow_run_id: str
    flow_run_url: str
    request: Request
    listing_rows: int
    passed_over: dict[str, str] = {}
    scrub: ScrubReport
    validate_account: RowAccount
    validate_quarantined: dict[str, int]
    data_docs: HomePath
    set_aside: dict[str, int] = {}
    train_rows: int
    holdout_rows: int
    base_id: str
    training: FinetuneMetrics
    mlflow_run_id: str
    evaluation: Evaluation
    verdict: Verdict
    promotion: Promotion | None
    new_data: NewData | None = None
    page: str = ""
    cached: dict[str, bool]
    seconds: float

    @property
    def rows(self) -> RowAccount:
        """The account of the whole pipeline: rows in = rows kept + quarantined + duplicates.

        Raises:
            pydantic.ValidationError: it does not balance.
        """
        return RowAccount(
            rows_in=self.listing_rows,
            rows_out=self.train_rows + self.holdout_rows,
            quarantined=self.scrub.account.quarantined
            + self.validate_account.quarantined
            + sum(self.set_aside.values()),
            duplicates=self.scrub.account.duplicates,
        )

    @property
    def from_cache(self) -> list[str]:
        """The stages whose results were there already."""
        return [stage for stage, hit in self.cached.items() if hit]

    @property
    def quarantined(self) -> dict[str, int]:
        """{rule: rows} over all stages."""
        return {**self.scrub.quarantined, **self.validate_quarantined, **self.set_aside}


def row_table(report: RetrainReport) -> list[dict[str, Any]]:
    """One row a stage; the last is the whole pipeline."""
    aside = sum(report.set_aside.values())
    parts = report.train_rows + report.holdout_rows
    accounts = {
        "scrub": report.scrub.account,
        "validate": report.validate_account,
        "split": RowAccount(rows_in=parts + aside, rows_out=parts, quarantined=aside),
        "all": report.rows,
    }
    return [
        {
            "stage": name,
            "in": account.rows_in,
            "out": account.rows_out,
            "quarantined": account.quarantined,
            "duplicates": account.duplicates,
        }
        for name, account in accounts.items()
    ]


def score_table(report: RetrainReport) -> list[dict[str, Any]]:
    """One row a model."""
    return [
        {
            "model": name,
            "loss": round(score.loss, 4),
            "perplexity": round(score.perplexity, 2),
            "conversations": score.items,
        }
        for name, score in report.evaluation.scores.items()
    ]


def new_data_table(account: NewData) -> list[dict[str, Any]]:
    """One row: what is learnt from traffic after drift, and what it rests on."""
    return [
        {
            "learnt": account.learnt,
            "corrected by users": account.corrected,
            "own answers approved by users": account.approved,
            "users": account.users,
            "of unknown users": account.unnamed,
            "left out": sum(account.left_out.values()),
        }
    ]


def gate_table(verdict: Verdict) -> list[dict[str, Any]]:
    """One row a gate that was measured, the failed ones first."""
    measured = [gate for gate in verdict.gates if gate.status != "not measured"]
    return [
        {
            "gate": gate.label,
            "metric": gate.metric,
            "": "passed" if gate.passed else "FAILS" if gate.severity == "block" else "warns",
            "difference": number(gate.value),
            "interval": f"{number(gate.low)} to {number(gate.high)}",
            "items": gate.items,
        }
        for gate in sorted(measured, key=lambda gate: (gate.passed, gate.severity == "warn"))
    ]


def facts(report: RetrainReport) -> dict[str, str]:
    """What a reader of the verdict wants to know besides, in order."""
    training, audited = report.training, report.scrub.audit
    return {
        "asked for by": f"{report.request.trigger}: {report.request.reason}",
        "flow run": report.flow_run_url or report.flow_run_id,
        "MLflow run": report.mlflow_run_id,
        "base model": report.base_id,
        "rows": str(report.rows),
        "scrub policy": report.scrub.policy_digest[:16],
        **({"personal data": str(audited)} if audited else {}),
        "trained": f"{training.steps} steps, {training.tokens} tokens on {training.processes}"
        f" {training.device} ranks in {training.train_seconds:.0f} s",
        **({"not learnt from": not_learnt(training)} if training.skipped else {}),
        **(
            {"adapted to the chat template": by_count(training.changed)} if training.changed else {}
        ),
        "Data Docs": report.data_docs,
    }


def not_learnt(training: FinetuneMetrics) -> str:
    """Conversations that the training left out, and why."""
    return f"{training.skipped} conversations ({by_count(training.skipped_by)})"


def by_count(counts: dict[str, int]) -> str:
    """How many conversations each thing happened to."""
    return "; ".join(f"{count}: {what}" for what, count in counts.items())


def as_markdown(report: RetrainReport) -> str:
    """For Prefect, which keeps it for ever: without a word of any conversation."""
    verdict, training, promotion = report.verdict, report.training, report.promotion
    headline = {
        "promote": f"Promoted: version {promotion.version} is champion"
        if promotion
        else "To be promoted, if it is approved",
        "keep": f"Not promoted: the {verdict.bar} stays",
        "unchanged": "Unchanged: this adapter is champion already",
    }[verdict.decision]
    parts = [
        f"# {headline}",
        verdict.reason[:1].upper() + verdict.reason[1:] + ".",
        "## Gates" if verdict.gates else "",
        table(gate_table(verdict)) if verdict.gates else "",
        "## Models on the held-out conversations",
        table(score_table(report)),
        "Loss in nats a token of what the assistant said; lower is better.",
        "## Rows",
        table(row_table(report)),
        _counts("Quarantined, by rule", report.quarantined),
        *_new_data(report.new_data),
        _counts("Files passed over, by reason", dict(Counter(report.passed_over.values()))),
        "## Scrub",
        f"{report.scrub.audit}." if report.scrub.audit else "",
        *(f"**{title}**\n\n{table(rows)}" for title, rows in found_tables(report.scrub).items()),
        "## Training",
        table(
            [
                {
                    "steps": training.steps,
                    "processes": training.processes,
                    "tokens": training.tokens,
                    "tokens/s": round(training.tokens_per_second),
                    "first loss": round(training.first_loss, 3),
                    "last loss": round(training.last_loss, 3),
                    "conversations": training.conversations,
                    "skipped": training.skipped,
                    "cut": training.truncated,
                    "seconds": round(training.train_seconds),
                }
            ]
        ),
        _counts("Conversations not learnt from, by the reason", training.skipped_by),
        _counts("Conversations adapted to the chat template", training.changed),
        "\n".join(f"- {remark}" for remark in training.remarks),
        "## Where it is",
        f"- request `{report.request.id}` of the ledger: {cell(report.request.reason)}\n"
        f"- MLflow run `{report.mlflow_run_id}`\n"
        f"- base model `{report.base_id}`\n"
        f"- Data Docs `{report.data_docs}`\n"
        f"- this with sample answers `{report.page}`\n"
        f"- scrub policy `{report.scrub.policy_digest[:16]}`\n"
        f"- from the cache: {', '.join(report.from_cache) or 'nothing'}",
    ]
    return "\n\n".join(part for part in parts if part)


def _new_data(account: NewData | None) -> list[str]:
    if account is None:
        return []
    table_of_it = table(new_data_table(account))
    return ["## New data", table_of_it, _counts("Left out of the new data", account.left_out)]


def _counts(title: str, counts: dict[str, int]) -> str:
    if not counts:
        return ""
    return f"**{title}**\n\n" + table([{"name": name, "count": n} for name, n in counts.items()])
