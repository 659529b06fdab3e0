"""Small training jobs: a snapshot of conversations, a base, and the spec that names both."""

from pathlib import Path

from data_contracts.records import Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from models.adapters import Adapter
from models.base import Base, DtypeName, ModelSettings, resolve_base
from models.spec import FinetuneSpec
from tasks.train import TrainSettings, spec_of
from tests.tiny import conversations


def snapshot(folder: Path, count: int = 200) -> Snapshot:
    records = [Record.model_validate({**row, "source": "tests"}) for row in conversations(count)]
    return write_records(str(folder), "test", records, parent=None, provenance={})


def tiny_base(model: Path, folder: Path, dtype: DtypeName = "float32") -> Base:
    return resolve_base(ModelSettings(base=str(model), dtype=dtype), folder / "models")


def job(
    folder: Path,
    model: Path,
    settings: TrainSettings,
    *,
    count: int = 200,
    start: Adapter | None = None,
    dtype: DtypeName = "float32",
) -> FinetuneSpec:
    """The spec of a job whose files are below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = snapshot(folder / "snapshots", count)
    base = tiny_base(model, folder, dtype)
    return spec_of(data, base, settings, start, Workspace(home=folder / "home"))
