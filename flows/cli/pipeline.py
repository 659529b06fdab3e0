"""`evergreen retrain`, `plan`, `config`: run the pipeline and show what it did, or would take."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.text import Text

from data_contracts.errors import ConfigError, StackError
from data_contracts.home_keys import passing_key
from data_contracts.workspace import Workspace
from flows.cli.output import JsonFlag, bold, console, show_json, show_passed_over, show_table
from infra.local import PrefectApi

if TYPE_CHECKING:
    from flows.report import RetrainReport
    from flows.settings import Settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings (see `evergreen config`).")
]


def retrain(
    config: ConfigOption = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="File, folder, glob, s3:// or hf:// URL; repeat for more."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Retrain once: ingest, scrub, validate, split, train, evaluate, decide, promote.

    What was done before with the same data and settings is not done again.

    Example: `evergreen retrain --data chats.jsonl`
    """
    api = PrefectApi(Workspace.current())
    from flows.settings import load_settings

    report = run_retrain(load_settings(config, data=data), api)
    if as_json:
        show_json(report.model_dump(mode="json"))
        return
    show_summary(report)
    say_what_next()


def config(
    config: ConfigOption = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference of all settings instead.")
    ] = False,
) -> None:
    """Print the settings in force, as YAML that `--config` takes. Secrets are named, not shown.

    Example: `evergreen config > evergreen.yaml`
    """
    import yaml

    from flows.settings import load_settings, published, reference

    if markdown:
        print(reference())
        return
    print(yaml.safe_dump(published(load_settings(config)), sort_keys=False), end="")


def run_retrain(settings: "Settings", api: PrefectApi) -> "RetrainReport":
    """Run the flow in this process.

    Data and settings that cannot work are refused before a server is started.
    """
    from tasks.ingest import ingest
    from tasks.train import check_rendezvous

    check_rendezvous(settings.train)
    ingest(settings.data, passing_key())
    Workspace.current().create()
    with api.running():
        return run_flow(settings)


def run_flow(settings: "Settings") -> "RetrainReport":
    from flows.retrain import retrain as flow

    return cast("RetrainReport", flow(settings))


def show_summary(report: "RetrainReport") -> None:
    from flows.report import gate_table, new_data_table, row_table, score_table
    from tasks.scrub.report import found_tables

    show_table("Rows", row_table(report))
    console.print(str(report.rows))
    if report.quarantined:
        rows = [{"rule": rule, "rows": count} for rule, count in report.quarantined.items()]
        show_table("Quarantined, by the rule they broke", rows)
    if report.new_data is not None:
        show_table("New data, of traffic that drifted", new_data_table(report.new_data))
    show_passed_over(report.passed_over)
    for title, rows in found_tables(report.scrub).items():
        show_table(title, rows)
    if report.scrub.audit:
        console.print(f"{report.scrub.audit}")
    training = report.training
    show_table(
        "Training",
        [
            {
                "chats": training.conversations,
                "skipped": training.skipped,
                "held out": report.holdout_rows,
                "steps": training.steps,
                "ranks": training.processes,
                "tokens/s": round(training.tokens_per_second),
                "loss": f"{training.first_loss:.2f} -> {training.last_loss:.2f}",
                "seconds": round(training.total_seconds),
            }
        ],
    )
    for title, counts in {
        "Not learnt from": training.skipped_by,
        "Adapted to the model's chat template": training.changed,
    }.items():
        if counts:
            rows = [{"what": what, "conversations": count} for what, count in counts.items()]
            show_table(title, rows)
    for remark in training.remarks:
        console.print(f"Note: {remark}")
    show_table("Held-out loss (nats a token)", score_table(report))
    show_table("Gates", gate_table(report.verdict))
    promotion = report.promotion
    console.print(bold(f"Verdict: {report.verdict.decision}"), report.verdict.reason, sep=" - ")
    if promotion is not None:
        console.print(
            bold("Champion:"),
            f"version {promotion.champion or '-'} of"
            f" {promotion.model!r}; previous: {promotion.previous or '-'};"
            f" this challenger: version {promotion.version}",
        )
    console.print(f"Data Docs: {report.data_docs}", soft_wrap=True)
    if report.from_cache:
        console.print(f"From the cache, not done again: {', '.join(report.from_cache)}")
    console.print(f"{report.seconds:.1f} s of work")


def say_what_next() -> None:
    home = os.path.relpath(Workspace.current().home)
    prefix = "" if home == ".evergreen" else f"EVERGREEN_HOME={home} "
    console.print("Prefect UI:  ", bold(f"{prefix}evergreen up --only prefect"))
    console.print("MLflow UI:   ", bold(f"{prefix}evergreen up --only mlflow"))


def join(
    config: ConfigOption = None,
    minutes: Annotated[float, typer.Option(min=0, help="How long to wait for a job.")] = 60,
) -> None:
    """Take part in the training of another machine that shares EVERGREEN_HOME.

    For `train.nodes` above 1: run it on all machines but the one that retrains.

    Example: `evergreen join --config evergreen.yaml`
    """
    from flows.settings import load_settings
    from models.spec import METRICS, FinetuneSpec
    from tasks.train import check_job, check_rendezvous, launch

    settings, workspace = load_settings(config).train, Workspace.current()
    if settings.nodes == 1:
        raise ConfigError("there is nothing to join: train.nodes is 1", "set it, and rendezvous")
    check_rendezvous(settings)
    since, until = time.time() - 3600, time.monotonic() + 60 * minutes
    while True:
        waiting = [
            file
            for file in workspace.runs.glob("train-*/spec.json")
            if file.stat().st_mtime > since and not (file.parent / METRICS).exists()
        ]
        if waiting:
            break
        if time.monotonic() > until:
            raise StackError(
                f"no training was started in {workspace.runs}", "retrain on one machine"
            )
        time.sleep(2)
    newest = max(waiting, key=lambda file: file.stat().st_mtime)
    check_job(FinetuneSpec.model_validate_json(newest.read_text(encoding="utf-8")), settings)
    console.print(f"joining {newest.parent.name} at {settings.rendezvous}")
    launch(newest, settings, lambda event: console.print(event.model_dump_json()))


def plan(
    config: ConfigOption = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="As for `evergreen retrain`.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Of another machine: how many GPUs it has.")
    ] = None,
    gpu_memory: Annotated[float, typer.Option(min=0.1, help="GB of each of them.")] = 80,
    tflops: Annotated[
        float, typer.Option(min=1, help="Dense bf16 rate of each: 989 is an H100's, 312 an A100's.")
    ] = 989,
    price: Annotated[
        float | None, typer.Option(min=0, help="Of an hour of the whole machine.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what training would take, before it runs: memory of a rank, tokens, time, cost.

    Example: `evergreen plan --data chats.jsonl --gpus 8 --price 20`
    """
    from flows.settings import load_settings
    from models.plan import Machine
    from tasks.plan import STATED_SHARE
    from tasks.plan import plan as estimate

    settings = load_settings(config, data=data)
    workspace = Workspace.current()
    workspace.create()
    machine = None
    if gpus is not None:
        machine = Machine(
            ranks=gpus,
            memory_bytes=gpu_memory * 1e9,
            flops=tflops * 1e12,
            share=STATED_SHARE,
            gpu=True,
            name=f"{gpus} GPUs of {gpu_memory:g} GB (not measured)",
        )
    made = estimate(settings.data, settings.model, settings.train, workspace, machine, price)
    if as_json:
        show_json(made.model_dump(mode="json") | {"total_bytes": made.memory.total})
        return
    memory = made.memory
    show_table(
        f"Memory of each of {made.machine.ranks} ranks on {made.machine.name}, GB",
        [
            {
                "process": memory.process / 1e9,
                "base": memory.weights / 1e9,
                "adapter": memory.adapter / 1e9,
                "activations": memory.activations / 1e9,
                "loss": memory.loss / 1e9,
                "in all": memory.total / 1e9,
                "there is": made.machine.memory_bytes / 1e9,
            }
        ],
    )
    show_table(
        "Training",
        [
            {
                "steps": made.steps,
                "tokens": round(made.tokens),
                "tokens at once": made.micro_batch_tokens,
                "tokens/s": round(made.tokens_per_second),
                "minutes": made.seconds / 60,
                "cost": made.cost,
            }
        ],
    )
    for note in made.notes:
        console.print(f"Note: {note}")
    if not made.fits:
        console.print(
            Text("It does not fit.", "bold red"),
            "Try train.gradient_checkpointing, a smaller train.micro_batch_tokens,"
            " train.zero_stage 3, or train.quantize nf4.",
        )
        raise typer.Exit(1)
