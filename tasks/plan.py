"""Plan: what a training would take, from a look at the data and the machine, without running it."""

from itertools import islice

from data_contracts.errors import DataError, RowRejected
from data_contracts.home_keys import passing_key
from data_contracts.records import Record
from data_contracts.workspace import Workspace
from models import plan as plans
from models.base import ModelSettings, load_config, resolve_base, torch_dtype
from models.chat import encode_all
from models.plan import Machine, Plan, Work
from models.preflight import check_model
from models.template import load_template
from tasks.ingest import IngestSettings, ingest
from tasks.train import TrainSettings, default_processes

# Rows that are encoded; the rest is taken to be like them.
SAMPLE = 500
# Of the matrix rate as measured, what training reaches: the bundled model on two cores, and the
# shape of 8B on one H200 without Liger's kernels (0.74 with them).
CPU_SHARE, GPU_SHARE = 0.5, 0.6
# Of the rate that a GPU's maker states, two thirds of which were measured.
STATED_SHARE = 0.4


def plan(
    data: IngestSettings,
    model: ModelSettings,
    settings: TrainSettings,
    workspace: Workspace,
    machine: Machine | None = None,
    price: float | None = None,
) -> Plan:
    """What training on all rows of the sources would take, here or on `machine`.

    Args:
        data: the sources, read and kept in memory only, unscrubbed.
        model: the base model.
        settings: the recipe and what it runs on.
        workspace: where the base model is kept.
        machine: another machine than this one.
        price: of an hour of the whole machine.

    Raises:
        DataError: no row that was looked at is a conversation with an answer.
        ConfigError, ModelError, TrainingError: no training of this model can succeed.
    """
    base = resolve_base(model, workspace.models)
    check_model(base, settings)
    dtype = torch_dtype(base.dtype)
    template, listing = load_template(base), ingest(data, passing_key())
    sample: list[Record] = []
    for file, row in islice(listing.rows(), SAMPLE):
        try:
            record = row.parse(file.name)
            sample.append(record.model_copy(update={"id": str(row.position)}))
        except RowRejected:
            continue
    examples, report = encode_all(template, sample, settings.max_length)
    if not examples:
        why = "; ".join(f"{reason} ({count})" for reason, count in report.skipped.items())
        raise DataError(
            f"none of the first {SAMPLE} rows is a conversation to learn from"
            + (f": {why}" if why else ""),
            "see `evergreen validate`",
        )
    learnt = report.conversations - report.skipped.total()
    share = learnt / min(SAMPLE, listing.rows_in)
    work = Work.of(examples, conversations=max(1, round(listing.rows_in * share)))
    here = machine or this_machine(settings, dtype)
    shape = plans.shape_of(load_config(base), settings, dtype.itemsize, gpu=here.gpu)
    notes = [
        f"{count} of the first {len(sample)} conversations: {what}"
        for what, count in (report.skipped + report.changed).items()
    ]
    if shape.rule:
        notes.append(f"memory and speed are from a rule of thumb: no trace ({shape.rule})")
    made = plans.plan(shape, settings, work, here, dtype.itemsize, price)
    return made.model_copy(update={"notes": tuple(notes)})


def this_machine(settings: TrainSettings, dtype: object) -> Machine:
    """Its memory, and its matrix rate as measured now, of one process alone."""
    import os

    import psutil
    import torch

    ranks = settings.processes or default_processes()
    gpu = torch.cuda.is_available()
    # The best of a few: what else a machine does lowers one or the other.
    rate = max(plans.matrix_rate(dtype) for _ in range(4))
    memory: float
    if gpu:
        _, memory = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
    else:  # all ranks share it
        memory = psutil.virtual_memory().total / ranks
        rate, name = rate / ranks, f"CPU, {os.cpu_count()} cores"
    return Machine(
        ranks=ranks * settings.nodes,
        memory_bytes=memory,
        flops=rate,
        share=GPU_SHARE if gpu else CPU_SHARE,
        gpu=gpu,
        name=name,
    )
