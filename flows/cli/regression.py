"""`evergreen regression`: conversations that once went wrong, and must not again."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from data_contracts.errors import ConfigError
from data_contracts.home_keys import passing_key
from data_contracts.workspace import Workspace
from flows.cli.data import learned, read_rows
from flows.cli.output import JsonFlag, console, progress, show_json, show_table
from flows.cli.pipeline import ConfigOption

app = typer.Typer(
    help="The regression set: past failures that every challenger is tried on.",
    no_args_is_help=True,
)


@app.command("add")
def add(
    source: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Conversations, as for `retrain --data`.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Or one: what the user said,")] = None,
    answer: Annotated[str | None, typer.Option(help="and what should be answered.")] = None,
    reason: Annotated[str, typer.Option(help="What went wrong.")] = "",
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Add conversations as they should have gone; they are scrubbed first.

    Example: `evergreen regression add --prompt "Are you open today?" --answer "Until six."`
    """
    from data_contracts.policy import load_policy
    from data_contracts.records import Message, Record
    from flows.settings import load_settings
    from tasks.evaluate import regression
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.ledger.database import Ledger
    from tasks.scrub.engine import Scrubber

    if (source is None) == (prompt is None) or (prompt is None) != (answer is None):
        raise ConfigError("nothing to add", "give a FILE, or --prompt and --answer")
    settings = load_settings(config)
    workspace = Workspace.current()
    workspace.create()
    policy = load_policy(settings.scrub.policy)
    with progress(quiet=as_json) as bar:
        detector = learned(bar, policy, settings.scrub, workspace)
        scrubber = Scrubber(policy, Path(detector.path) if detector else None)
        if prompt is not None and answer is not None:
            pair = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
            raw = [Record(id="0", messages=pair, source="command line")]
        else:
            listing = ingest(IngestSettings(sources=(Source(path=str(source)),)), passing_key())
            rows = read_rows(listing)
            raw, left_out = rows.records, rows.unreadable.total()
            if left_out:
                console.print(f"{left_out} rows are no conversations and are left out")
        made = regression.add(
            Ledger(settings.ledger, workspace),
            settings.name,
            [scrubber.record(record)[0] for record in raw],
            workspace,
            by=getpass.getuser(),
            reason=reason,
        )
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        console.print(
            f"{made.added} added; the regression set of {settings.name!r} holds"
            f" {made.snapshot.account.rows_out}"
        )


@app.command("list")
def list_additions(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """What was added when and why, the newest first.

    Example: `evergreen regression list`
    """
    from flows.settings import load_settings
    from tasks.evaluate import regression
    from tasks.ledger.database import Ledger

    settings = load_settings(config)
    workspace = Workspace.current()
    workspace.create()
    found = regression.additions(Ledger(settings.ledger, workspace), settings.name)
    if as_json:
        show_json([addition.model_dump(mode="json") for addition in found])
        return
    show_table(
        "Regression set",
        [
            {
                "at": f"{addition.at:%Y-%m-%d %H:%M UTC}",
                "added": addition.added,
                "conversations": addition.snapshot.account.rows_out,
                "by": addition.by,
                "why": addition.reason,
            }
            for addition in found
        ],
    )
