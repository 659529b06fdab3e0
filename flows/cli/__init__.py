"""The `evergreen` command.

Commands import what they need when they run, so that `--help` is quick and the
environment is in place before Prefect and MLflow read it.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from data_contracts.disk import disk_error, require_writable
from data_contracts.errors import ConfigError, EvergreenError
from data_contracts.permissions import keep_private
from data_contracts.printable import is_text
from data_contracts.workspace import Workspace
from flows.cli import backup, data, demo, drift, export, models, pipeline, regression, review, stack
from flows.cli.output import make_errors_printable, show_error
from infra.local import environment
from tasks.log_records import logging_in_one_line

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
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)


# These say what is wrong with a home, or take or bring a whole one.
WITHOUT_HOME = {"config", "backup", "restore"}
# These write nothing into a home, or make one.
READ_ONLY = {*WITHOUT_HOME, "doctor", "validate"}


def in_home(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, refused where EVERGREEN_HOME cannot be written: it would end halfway."""

    @wraps(command)
    def checked(*args: Any, **kwargs: Any) -> Any:
        require_writable(Workspace.current().home)
        return command(*args, **kwargs)

    return checked


for _commands in (app, models.app, regression.app):
    for _command in _commands.registered_commands:
        if _command.callback is not None and _command.name not in READ_ONLY:
            _command.callback = in_home(_command.callback)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(metadata.version("evergreen-llm"))
        raise typer.Exit
    workspace = Workspace.current()
    if (
        context.invoked_subcommand not in WITHOUT_HOME
        and workspace.home.is_dir()
        and "--help" not in sys.argv
    ):
        from tasks.home.opening import open_home

        open_home(workspace)  # before a server reads what is in it


def main() -> None:
    """Run the command line; user errors become one line and an exit code, never a traceback."""
    make_errors_printable()
    warnings.filterwarnings("ignore", category=FutureWarning)
    # The folder is made when there is something to put in it, not for `--help`.
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home directory")
    keep_private()
    os.environ.update(environment(Workspace.current()))
    logging_in_one_line()
    # Else Prefect writes a page to the terminal for each log line that its server cannot store.
    logging.raiseExceptions = False
    sys.exit(run())


def run() -> int:
    home = Workspace.current().home
    try:
        require_text(sys.argv)
        # Without standalone mode typer.Exit(code) comes back as the return value.
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except EvergreenError as error:
        error = disk_error(error, home) or error
        return _fail(str(error), error.exit_code)
    except typer.Abort:
        return _fail("stopped -- run the same command again to go on where it was", 130)
    except KeyboardInterrupt:
        return _fail("stopped -- run the same command again to go on where it was", 130)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            return _fail(f"{error.format_message()} -- see `evergreen --help`", 2)
        if problem := disk_error(error, home):
            return _fail(str(problem), problem.exit_code)
        raise


def require_text(arguments: Sequence[str]) -> None:
    """Raises ConfigError: one holds bytes that are no UTF-8, which nothing can write down."""
    for argument in arguments:
        if not is_text(argument):
            raise ConfigError(
                f"the argument {argument!r} is not UTF-8", "rename the file, or correct it"
            )


def _fail(message: str, code: int) -> int:
    show_error(message)
    return code
