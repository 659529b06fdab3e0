"""The `evergreen` command.

Commands import what they need when they run, so that `--help` is quick and the
environment is in place before Prefect and MLflow read it.
"""

import errno
import os
import sys
import warnings
from typing import Annotated

import typer

from data_contracts.errors import EvergreenError
from data_contracts.workspace import Workspace
from flows.cli import data, demo, drift, export, models, pipeline, regression, review, stack
from infra.local import environment

app = typer.Typer(
    name="evergreen",
    help="Keep a fine-tuned language model fresh: scrub, check, fine-tune, judge, promote, watch.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.command("doctor")(stack.doctor)
app.command("demo")(demo.demo)
app.command("retrain")(pipeline.retrain)
app.command("scrub")(data.scrub)
app.command("detector")(data.detector)
app.command("validate")(data.validate)
app.command("watch")(drift.watch)
app.command("drift")(drift.drift)
app.command("ledger")(drift.ledger)
app.add_typer(models.app, name="models")
app.command("ask")(models.ask)
app.command("export")(export.export)
app.add_typer(regression.app, name="regression")
app.command("review")(review.review)
app.command("up")(stack.up)
app.command("login")(stack.show_login)
app.command("status")(stack.status)
app.command("plan")(pipeline.plan)
app.command("join")(pipeline.join)
app.command("config")(pipeline.config)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(metadata.version("evergreen-llm"))
        raise typer.Exit


def main() -> None:
    """Run the command line; user errors become one line and an exit code, never a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # The folder is made when there is something to put in it, not for `--help`.
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home directory")
    os.environ.update(environment(Workspace.current()))
    sys.exit(run())


def run() -> int:
    try:
        # Without standalone mode typer.Exit(code) comes back as the return value.
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except EvergreenError as error:
        return _fail(str(error), error.exit_code)
    except typer.Abort:
        return _fail("stopped -- run the same command again to go on where it was", 130)
    except KeyboardInterrupt:
        return _fail("stopped -- run the same command again to go on where it was", 130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail("no disk space left -- free some, then run the same command again", 1)
        if isinstance(error, BrokenPipeError):
            return 0
        raise
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            return _fail(f"{error.format_message()} -- see `evergreen --help`", 2)
        raise


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
