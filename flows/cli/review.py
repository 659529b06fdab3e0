"""`evergreen review`: people compare a version's answers with those that it had to beat."""

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_contracts.errors import ConfigError
from data_contracts.workspace import Workspace
from flows.cli.models import ConfigOption, WhichArgument
from flows.cli.output import JsonFlag, console, show_json, show_table

if TYPE_CHECKING:
    from tasks.decide import Verdict
    from tasks.evaluate import Evaluation
    from tasks.registry import Version
    from tasks.review import Reviews, Scored

SEED_BYTES = 16


def review(
    which: WhichArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the sheet; default one below EVERGREEN_HOME."),
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="Conversations on the sheet, at most.")] = 20,
    scores: Annotated[
        Path | None, typer.Option("--scores", help="Read a scored sheet: scores.csv.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="The key.json that was written with that sheet.")
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", help="Who scored; default the system's user.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a blind sheet of a version's answers beside the bar's; with --scores, read it back.

    The scores of several reviewers are averaged. The verdict after them is logged with the
    version; it promotes nothing and takes nothing back by itself.

    Example: `evergreen review champion`, then
    `evergreen review champion --scores scores.csv --key key.json`
    """
    if (scores is None) != (key is None):
        raise ConfigError("--scores and --key go together", "give both, or none for a new sheet")
    from flows.settings import load_settings
    from tasks.documents import documents
    from tasks.evaluate.samples import with_samples
    from tasks.registry import find
    from tasks.review import read_key, read_scores, record, reviews_of
    from tasks.tracking import connect

    settings = load_settings(config)
    client: Any = connect(settings.tracking, Workspace.current())
    version = find(client, settings.name, which)
    kept = documents(client, version)
    evaluation = with_samples(kept.evaluation, version.run_id, Workspace.current())
    if scores is None or key is None:
        _write_sheet(version, evaluation, items, out, as_json=as_json)
        return
    from tasks.decide.verdict import with_review

    opened = read_key(key, version, evaluation)
    scored = read_scores(scores, opened)
    reviews = reviews_of(kept, evaluation).add(reviewer or getpass.getuser(), scored, opened)
    verdict = with_review(evaluation, reviews.measures, settings.decide, kept.verdict)
    record(client, version, reviews, verdict)
    _show(version, reviews, verdict, scored, as_json=as_json)


def _write_sheet(
    version: "Version", evaluation: "Evaluation", count: int, out: Path | None, *, as_json: bool
) -> None:
    from tasks.review import KEY, PAGE, TABLE, draw, write

    items, key = draw(evaluation, version, count, os.urandom(SEED_BYTES))
    name = f"{version.name}-{version.version}-{key.sheet}"
    folder = (out or Workspace.current().home / "reviews" / name).resolve()
    write(items, key, folder)
    if as_json:
        files = {"page": PAGE, "table": TABLE, "key": KEY}
        show_json(
            {"version": version.version, "sheet": key.sheet, "items": len(items)}
            | {what: str(folder / file) for what, file in files.items()}
        )
        return
    console.print(
        f"{len(items)} conversations, the answers of version {version.version} beside those of"
        f" the {key.bar}. Give reviewers one of"
    )
    for file in (PAGE, TABLE):
        console.print(f"  {folder / file}", soft_wrap=True)
    console.print(f"and not {KEY}, which says whose answer is whose. Then")
    console.print(
        f"  evergreen review {version.version} --scores scores.csv --key {folder / KEY}",
        soft_wrap=True,
    )


def _show(
    version: "Version",
    reviews: "Reviews",
    verdict: "Verdict",
    scored: "dict[str, Scored]",
    *,
    as_json: bool,
) -> None:
    from tasks.evaluate.measures import mean

    gates = [gate for gate in verdict.gates if gate.metric == "reviewed"]
    take_back = "champion" in version.aliases and verdict.decision != "promote"
    if as_json:
        show_json(
            {
                "version": version.version,
                "bar": reviews.bar,
                "reviewers": {name: one.counts for name, one in reviews.reviewers.items()},
                "items": len(reviews.measures),
                "preference": mean(reviews.measures),
                "gates": [gate.model_dump(mode="json") for gate in gates],
                "decision": verdict.decision,
                "reason": verdict.reason,
                "take_back": take_back,
            }
        )
        return
    show_table(
        f"Reviews of version {version.version}",
        [
            {
                "reviewer": name,
                "challenger better": one.counts["challenger"],
                f"{reviews.bar} better": one.counts["bar"],
                "tie": one.counts["tie"],
                "both bad": one.counts["bad"],
            }
            for name, one in reviews.reviewers.items()
        ],
    )
    comments = [
        {
            "conversation": name,
            "better": reviews.bar if one.outcome == "bar" else one.outcome,
            "comment": one.comment,
        }
        for name, one in scored.items()
        if one.comment
    ]
    if comments:
        show_table("Comments", comments)
    for gate in gates:
        console.print(f"{gate.status.capitalize()}: {gate.reason}.")
    if not gates:
        console.print("No gate of decide.gates asks for reviews, so they change no decision.")
    console.print(f"{verdict.decision}: {verdict.reason}")
    if take_back:
        console.print(
            f"Version {version.version} is champion: `evergreen models rollback` takes it back."
        )
