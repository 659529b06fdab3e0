"""`evergreen models` and `ask`: what the registry holds, and what it answers."""

import getpass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_contracts.errors import RegistryError
from data_contracts.workspace import Workspace
from flows.cli.output import JsonFlag, console, show_json, show_table
from infra.local import PrefectApi, reach_prefect

if TYPE_CHECKING:
    from flows.settings import Settings
    from models.adapters import Adapter
    from models.base import Base
    from tasks.registry import Version

app = typer.Typer(
    help="The model registry: versions, and which of them is champion.", no_args_is_help=True
)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
WhichArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A number, or champion, challenger, previous.")
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A flow run's id or name, or latest: the last that began to wait."
    ),
]
NameOption = Annotated[str | None, typer.Option(help="Who answers; default the system's user.")]
CommentOption = Annotated[str, typer.Option(help="Why; kept with the version.")]

RELOAD_TOLERANCE = 0.01


@app.command("list")
def list_models(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """All versions, newest first.

    Example: `evergreen models list`
    """
    settings, client = _connect(config)
    from tasks.registry import versions

    found = versions(client, settings.name)
    if as_json:
        show_json([version.model_dump() for version in found])
        return
    show_table(
        f"Model {settings.name!r}",
        [
            {
                "version": version.version,
                "aliases": ", ".join(version.aliases),
                "held-out loss": version.holdout_loss,
                "made": _when(version.created_at),
                "why": version.reason,
            }
            for version in found
        ],
    )


@app.command("show")
def show(which: WhichArgument, config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """One version: its numbers, where its adapter is, and what it was trained on.

    Example: `evergreen models show champion`
    """
    settings, client = _connect(config)
    from tasks.registry import find, load

    version = find(client, settings.name, which)
    loaded = load(version)
    facts = version.model_dump() | {
        "made": _when(version.created_at),
        "adapter": loaded.adapter.path,
        "base": loaded.base.id,
        "base_digest": loaded.base.digest,
        "tokenizer_digest": loaded.base.tokenizer_digest,
        "holdout": loaded.holdout.path,
        "metrics": client.get_run(version.run_id).data.metrics,
    }
    if as_json:
        show_json(facts)
        return
    metrics = facts.pop("metrics")
    show_table(
        f"Version {version.version}",
        [{"what": name, "is": str(value)} for name, value in facts.items()],
    )
    show_table("Metrics", [{"metric": name, "value": value} for name, value in metrics.items()])


@app.command("check")
def check(which: WhichArgument, config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Load a version back from the registry and score it again; exits 1 if the loss differs.

    Example: `evergreen models check champion`
    """
    settings, client = _connect(config)
    from tasks.evaluate.cache import ItemCache
    from tasks.evaluate.measures import mean
    from tasks.evaluate.sets import choose
    from tasks.evaluate.stage import Loaded, losses
    from tasks.registry import find, load

    version = find(client, settings.name, which)
    if version.holdout_loss is None:
        raise RegistryError(f"version {version.version} has no recorded loss", "retrain")
    loaded = load(version)
    limits = _recorded(client, version)
    max_items = limits.get("max_items", settings.evaluate.max_items)
    max_length = limits.get("max_length", settings.evaluate.max_length)
    with TemporaryDirectory() as scratch:  # an empty cache: everything is measured again
        measured = losses(
            Loaded(_here(loaded.base), loaded.adapter),
            ItemCache(Path(scratch) / "items.db", version.adapter_digest, code=""),
            choose(loaded.holdout.records(), max_items),
            max_length,
        )
    loss = mean(measured)
    same = abs(loss - version.holdout_loss) <= RELOAD_TOLERANCE
    result = {
        "version": version.version,
        "measured": loss,
        "recorded": version.holdout_loss,
        "same": same,
    }
    if as_json:
        show_json(result)
    else:
        show_table("Loaded back from the registry", [result])
    if not same:
        raise typer.Exit(1)


@app.command("rollback")
def rollback(
    to: Annotated[str, typer.Option("--to", help="A version or alias.")] = "previous",
    reason: Annotated[
        str, typer.Option("--reason", help="Why; kept in the history.")
    ] = "asked for by a person",
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an earlier version champion again, once it has loaded and answered.

    Example: `evergreen models rollback --reason "answers in the wrong language"`
    """
    workspace = Workspace.current()
    reach_prefect(workspace)  # so that who listens to events hears of it
    settings, client = _connect(config)
    from flows.events import tell
    from tasks.ledger.database import Ledger
    from tasks.promote import rollback as roll_back

    ledger = Ledger(settings.ledger, workspace)
    done = roll_back(client, settings.name, to, workspace, ledger, by="command line", reason=reason)
    if done.changed:
        tell(settings, done, "rollback", reason)
    if as_json:
        show_json(done.model_dump(mode="json"))
    else:
        console.print(f"Version {done.champion} is champion; it was {done.previous or 'none'}.")


@app.command("history")
def history(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Who became champion when, by whom and why, newest first.

    Example: `evergreen models history`
    """
    from flows.settings import load_settings
    from tasks.ledger import promotions
    from tasks.ledger.database import Ledger

    settings, workspace = load_settings(config), Workspace.current()
    workspace.create()
    found = promotions.history(Ledger(settings.ledger, workspace), settings.name)
    if as_json:
        show_json([entry.model_dump(mode="json") for entry in found])
        return
    show_table(
        f"Champions of {settings.name!r}",
        [
            {
                "at": f"{entry.at:%Y-%m-%d %H:%M}",
                "action": entry.action,
                "version": entry.version,
                "before": entry.before,
                "by": entry.by,
                "reason": entry.reason,
                "state": entry.state,
            }
            for entry in found
        ],
    )


@app.command("why")
def why(which: WhichArgument, config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Why a version is champion or not: what asked for it, how it was judged, what came of it.

    Example: `evergreen models why champion`
    """
    settings, client = _connect(config)
    from tasks.documents import documents
    from tasks.ledger import promotions
    from tasks.ledger.database import Ledger
    from tasks.registry import find
    from tasks.why import why as explained

    version = find(client, settings.name, which)
    kept = documents(client, version)
    lineage, verdict = kept.lineage, kept.verdict
    history = promotions.history(Ledger(settings.ledger, Workspace.current()), settings.name)
    if as_json:
        show_json(
            {
                "version": version.model_dump(mode="json"),
                "lineage": lineage.model_dump(mode="json"),
                "verdict": verdict.model_dump(mode="json"),
                "history": [entry.model_dump(mode="json") for entry in history],
            }
        )
        return
    console.print(explained(version, lineage, verdict, history))


@app.command("waiting")
def list_waiting(as_json: JsonFlag = False) -> None:
    """Runs that wait for a person to approve a promotion.

    Example: `evergreen models waiting`
    """
    with PrefectApi(Workspace.current()).running():
        from flows.approval import waiting

        found = waiting()
    if as_json:
        show_json([one.model_dump(mode="json") for one in found])
        return
    show_table(
        "Waiting for approval",
        [
            {
                "run": one.name,
                "id": str(one.id),
                "since": _when(int(one.since.timestamp() * 1000)),
                "model": one.model,
                "verdict": one.reason,
            }
            for one in found
        ],
    )


@app.command("approve")
def approve(
    run: RunArgument,
    name: NameOption = None,
    comment: CommentOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Let the challenger that a run waits with become champion.

    Example: `evergreen models approve latest --comment "read the samples"`
    """
    _answer(run, name, comment, approve=True, as_json=as_json)


@app.command("reject")
def reject(
    run: RunArgument,
    name: NameOption = None,
    comment: CommentOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Keep the champion, and the challenger that a run waits with as challenger.

    Example: `evergreen models reject latest --comment "too curt"`
    """
    _answer(run, name, comment, approve=False, as_json=as_json)


def _answer(run: str, name: str | None, comment: str, *, approve: bool, as_json: bool) -> None:
    with PrefectApi(Workspace.current()).running():
        from flows.approval import answer

        name = name or getpass.getuser()
        one = answer(run, approve=approve, name=name, comment=comment)
    if as_json:
        show_json({**one.model_dump(mode="json"), "approved": approve, "by": name})
    else:
        done = "Approved" if approve else "Rejected"
        console.print(f"{done} by {name}: the challenger of {one.model!r}, run {one.name}.")


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[
        str, typer.Option("--model", help="base, champion, challenger, previous or a version.")
    ] = "champion",
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a model of the registry, by default the champion.

    Example: `evergreen ask "How was your weekend?" --model base`
    """
    settings, client = _connect(config)
    from data_contracts.records import Message
    from models.adapters import load_model
    from models.base import resolve_base
    from models.generate import answer
    from models.template import load_template
    from tasks.registry import find, load

    adapter: Adapter | None = None
    if model == "base":
        base = resolve_base(settings.model, Workspace.current().models)
    else:
        loaded = load(find(client, settings.name, model))
        base, adapter = _here(loaded.base), loaded.adapter
    reply = answer(
        load_model(base, adapter),
        load_template(base),
        (Message(role="user", content=question),),
        max_new_tokens=settings.evaluate.max_new_tokens,
    )
    if as_json:
        show_json({"model": model, "question": question, "answer": reply})
    else:
        console.print(reply)


def _connect(config: Path | None) -> "tuple[Settings, Any]":
    from flows.settings import load_settings
    from tasks.tracking import connect

    settings = load_settings(config)
    return settings, connect(settings.tracking, Workspace.current())


def _here(base: "Base") -> "Base":
    from models.base import local_base

    return local_base(base, Workspace.current().models)


def _recorded(client: Any, version: "Version") -> dict[str, int]:
    """The evaluation settings that the version's recorded loss was measured with."""
    tags = client.get_model_version(version.name, version.version).tags
    return {
        name: int(tags[f"evergreen.evaluate.{name}"])
        for name in ("max_items", "max_length")
        if f"evergreen.evaluate.{name}" in tags
    }


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
