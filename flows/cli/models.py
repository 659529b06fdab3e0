"""`evergreen models` and `ask`: what the registry holds, and what it answers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_contracts.errors import RegistryError
from data_contracts.workspace import Workspace
from flows.cli.output import JsonFlag, console, show_json, show_table

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
    from tasks.evaluate import evaluate
    from tasks.registry import find, load

    version = find(client, settings.name, which)
    if version.holdout_loss is None:
        raise RegistryError(f"version {version.version} has no recorded loss", "retrain")
    loaded = load(version)
    found = evaluate(
        _here(loaded.base),
        loaded.adapter,
        loaded.holdout,
        settings.evaluate.model_copy(update={**_recorded(client, version), "samples": 0}),
    )
    same = abs(found.loss - version.holdout_loss) <= RELOAD_TOLERANCE
    result = {
        "version": version.version,
        "measured": found.loss,
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
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an earlier version champion again, once it has loaded and answered.

    Example: `evergreen models rollback`
    """
    from tasks.promote import rollback as roll_back

    settings, client = _connect(config)
    done = roll_back(client, settings.name, to, Workspace.current())
    if as_json:
        show_json(done.model_dump(mode="json"))
    else:
        console.print(f"Version {done.champion} is champion; it was {done.previous or 'none'}.")


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
    from models.base import load_tokenizer, resolve_base
    from models.generate import answer
    from tasks.registry import find, load

    adapter: Adapter | None = None
    if model == "base":
        base = resolve_base(settings.model, Workspace.current().models)
    else:
        loaded = load(find(client, settings.name, model))
        base, adapter = _here(loaded.base), loaded.adapter
    tokenizer = load_tokenizer(base)
    reply = answer(
        load_model(base, adapter),
        tokenizer,
        (Message(role="user", content=question),),
        max_new_tokens=settings.evaluate.max_new_tokens,
    )
    if as_json:
        show_json({"model": model, "question": question, "answer": reply})
    else:
        console.print(reply, markup=False)


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
