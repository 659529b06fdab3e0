"""`evergreen backup`, `restore`: a home in one file, and back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from data_contracts.databases import without_password
from data_contracts.workspace import Workspace
from flows.cli.output import JsonFlag, advance, bold, console, progress, show_json
from flows.cli.pipeline import ConfigOption

MB = 2**20


def backup(
    file: Annotated[
        Path, typer.Argument(help="Is made, such as `home.tar.zst`; readable by you only.")
    ],
    without_models: Annotated[
        bool,
        typer.Option(
            "--without-models",
            help="Leave out base models and the detector: they are fetched, or trained, again.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Save EVERGREEN_HOME in one file, also while `evergreen up` and retrains run.

    Example: `evergreen backup /mnt/backups/evergreen-monday.tar.zst`
    """
    from flows.settings import load_settings
    from tasks.home.backup import back_up

    settings = load_settings(config)
    elsewhere = {
        "the ledger": settings.ledger.url and settings.ledger.url.reveal("ledger.url"),
        "MLflow": settings.tracking.uri and settings.tracking.uri.reveal("tracking.uri"),
    }
    missing = [f"{what} at {without_password(at)}" for what, at in elsewhere.items() if at]
    with _megabytes("saving", quiet=as_json) as on_progress:
        saved = back_up(
            Workspace.current(), file, without_models=without_models, on_progress=on_progress
        )
    if as_json:
        show_json(saved.model_dump(mode="json") | {"not_included": missing})
        return
    console.print(
        f"{saved.file}: {saved.files} files, {saved.home_bytes / 1e6:.1f} MB in"
        f" {saved.bytes / 1e6:.1f} MB",
        soft_wrap=True,
    )
    for reason, count in saved.left_out.items():
        console.print(f"left out: {count} files, {reason}", soft_wrap=True)
    for what in missing:
        console.print(bold("not in it:"), f"{what}; save it with its own tools", soft_wrap=True)
    if saved.holds_keys:
        console.print(
            bold("It holds the keys of this home:"),
            "keep it as secret as the home itself.",
            soft_wrap=True,
        )


def restore(
    file: Annotated[Path, typer.Argument(help="What `evergreen backup` wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put a home that is there aside, under another name.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make EVERGREEN_HOME from a backup, at any path, whole or not at all.

    Example: `EVERGREEN_HOME=/srv/evergreen evergreen restore evergreen-monday.tar.zst`
    """
    from tasks.home.restoring import restore as make_home

    with _megabytes("restoring", quiet=as_json) as on_progress:
        made = make_home(file, Workspace.current(), replace=replace, on_progress=on_progress)
    if as_json:
        show_json(made.model_dump(mode="json"))
        return
    console.print(
        f"{made.home}: {made.files} files, as of {made.made_at:%Y-%m-%d %H:%M UTC}", soft_wrap=True
    )
    if made.replaced:
        console.print(f"what was there before is at {made.replaced}", soft_wrap=True)


@contextmanager
def _megabytes(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    with progress(quiet=quiet) as bar:
        line = bar.add_task(f"{what}, MB", total=None, visible=False)
        yield lambda done, of: advance(bar, line, done // MB, of // MB)
