"""The scrub's report, as a page or Markdown: counts, never a value."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from data_contracts.errors import DataError
from data_contracts.formats import Readings
from tasks.markdown import table
from tasks.scrub.audit import Audit
from tasks.scrub.stage import ScrubReport

TEMPLATE = "report.html.j2"
KINDS = (".html", ".md", ".json")


def write(report: ScrubReport, source: str, path: Path) -> None:
    """Write the report in the form that the path's ending names.

    Raises:
        DataError: the file cannot be written.
    """
    forms = {".html": page, ".md": markdown, ".json": _json}
    try:
        path.write_text(forms[path.suffix](report, source), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror})", "choose another") from error


def page(report: ScrubReport, source: str) -> str:
    """One self-contained HTML page."""
    template = resources.files("tasks.scrub").joinpath(TEMPLATE).read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    total = max(report.scores.values(), default=1)
    return environment.from_string(template).render(
        report=report,
        source=source,
        total=sum(report.findings.values()),
        tables=tables(report),
        scores=[
            (f"{int(step) / 10:.1f} and more", count, round(100 * count / total))
            for step, count in report.scores.items()
        ],
    )


def markdown(report: ScrubReport, source: str) -> str:
    parts = [f"# Scrub of {source}", f"{report.account}."]
    parts += [f"{report.audit}."] if report.audit else []
    for title, rows in tables(report).items():
        parts += [f"## {title}", table(rows)]
    scores = [{"score": f"{int(s) / 10:.1f}+", "findings": n} for s, n in report.scores.items()]
    parts += ["## How sure the findings are", table(scores)] if scores else []
    parts.append(f"Counts only. Scrub policy `{report.policy_digest[:16]}`.")
    return "\n\n".join(parts) + "\n"


def _json(report: ScrubReport, source: str) -> str:
    return json.dumps({"source": source, **as_json(report)}, indent=2) + "\n"


def as_json(report: ScrubReport) -> dict[str, Any]:
    """The report with the audit's rates."""
    document = report.model_dump(mode="json")
    if report.audit is not None:
        low, high = report.audit.interval
        document["audit"] |= {"leak_rate": report.audit.leak_rate, "interval": [low, high]}
        document["audit"]["changed"] |= {
            "share_of_words": report.audit.changed.share_of_words,
            "share_of_numbers": report.audit.changed.share_of_numbers,
        }
    return document


def tables(report: ScrubReport) -> dict[str, list[dict[str, Any]]]:
    """{title: rows} of what was found and of what could not be scrubbed, where there is any."""
    rows = [{"rule": rule, "rows": count} for rule, count in report.quarantined.items()]
    return found_tables(report) | ({"Quarantined, by the rule they broke": rows} if rows else {})


def found_tables(report: ScrubReport) -> dict[str, list[dict[str, Any]]]:
    """{title: rows} of what was found, where there is any."""
    everything = {
        **reading_tables(report.readings),
        "Personal data replaced": [
            {"entity": name, "found": count} for name, count in report.findings.items()
        ],
        "Planted personal data (audit)": audit_rows(report.audit),
        "Messages in languages in which only patterns ran": [
            {"language": code, "messages": count} for code, count in report.uncovered.items()
        ],
        "Replaced of the data itself (audit)": changed_rows(report.audit),
        "Personal data that the source labels": [
            {"label": name, "spans": count, "replaced": report.covered.get(name, 0)}
            for name, count in report.labelled.items()
        ],
    }
    return {title: rows for title, rows in everything.items() if rows}


def reading_tables(readings: Readings) -> dict[str, list[dict[str, Any]]]:
    """{title: rows} of what rows were read as and what of them is not learnt."""
    everything = {
        "Formats": ("format", "rows", readings.formats),
        "Fields that nothing reads": ("field", "times", readings.unread),
        "Optional fields with a value that cannot be read": ("field", "times", readings.unknown),
        "Answers not learnt": ("because of", "answers", readings.unlearnt),
        "What people said of answers": ("label", "rows", readings.labels),
    }
    return {
        title: [{name: key, unit: count} for key, count in counts.items()]
        for title, (name, unit, counts) in everything.items()
        if counts
    }


def changed_rows(audited: Audit | None) -> list[dict[str, Any]]:
    """The shares of words and of numbers in the sampled messages that are replaced."""
    if audited is None or not audited.changed.words:
        return []
    changed = audited.changed
    return [
        {"what": what, "sampled": count, "replaced": f"{share:.2%}"}
        for what, count, share in (
            ("words", changed.words, changed.share_of_words),
            ("numbers", changed.numbers, changed.share_of_numbers),
        )
    ]


def audit_rows(audited: Audit | None) -> list[dict[str, Any]]:
    """One row an entity: recall on what was planted."""
    if audited is None:
        return []
    return [
        {
            "entity": entity,
            "planted": count,
            "replaced": audited.replaced.get(entity, 0),
            "recall": f"{audited.replaced.get(entity, 0) / count:.1%}",
        }
        for entity, count in sorted(audited.planted.items())
    ]
