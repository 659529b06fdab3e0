"""`evergreen export`: a version as a folder for PEFT, transformers or vLLM."""

from pathlib import Path
from typing import Annotated

import typer

from data_contracts.workspace import Workspace
from flows.cli.models import ConfigOption, WhichArgument
from flows.cli.output import JsonFlag, console, show_json, show_table


def export(
    which: WhichArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Is made; may exist if it is empty.")
    ],
    merged: Annotated[
        bool, typer.Option("--merged", help="The adapter merged into its base: a whole model.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a version into a folder with its card, lineage and checksums, and load it back.

    Example: `evergreen export champion ./adapter`
    """
    from flows.settings import load_settings
    from tasks.champion import load_version
    from tasks.documents import documents
    from tasks.export import export as write
    from tasks.export import require_free
    from tasks.registry import find
    from tasks.tracking import connect

    require_free(folder.absolute())
    settings, workspace = load_settings(config), Workspace.current()
    client = connect(settings.tracking, workspace)
    version = find(client, settings.name, which)
    loaded = load_version(version, workspace)
    done = write(loaded, documents(client, version), folder, merged=merged)
    if as_json:
        show_json(done.model_dump(mode="json"))
        return
    show_table(
        f"Version {done.version} in {done.folder}",
        [{"file": name, "sha256": digest[:16]} for name, digest in done.files.items()],
    )
    console.print(
        f"Loaded back: its logits are {done.distance:.2g} standard deviations from the version's"
        f" (at most {done.tolerance:g})."
    )
    console.print("vLLM, from its documentation:", done.serving.reason)
