"""Lineage: all that led to a version, by digest: data, scrub, base, code; and what it cost."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Protocol

import fsspec
from pydantic import BaseModel, ConfigDict, JsonValue

from data_contracts.code_version import project_version
from data_contracts.errors import DataError
from data_contracts.formats import Readings
from data_contracts.snapshots import RowAccount, Snapshot
from models.adapters import Adapter
from models.base import Base
from models.spec import FinetuneMetrics
from tasks.evaluate import Evaluation
from tasks.ledger.requests import Request, Trigger
from tasks.scrub import ScrubReport
from tasks.scrub.audit import Audit
from tasks.split import Split

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "deepspeed",
    "presidio-analyzer",
    "great-expectations",
    "mlflow",
    "prefect",
)
GIT_SECONDS = 10


class Made(BaseModel):
    """A snapshot: the stage that made it, from what, and how. `stage` is empty where the manifest
    cannot be read any more."""

    model_config = ConfigDict(frozen=True)

    digest: str
    stage: str
    parent: str | None
    provenance: dict[str, str]
    account: RowAccount


class Weights(BaseModel):
    """The base that the adapter belongs to; `hub` is its Hugging Face id, if it has one."""

    model_config = ConfigDict(frozen=True)

    id: str
    hub: str | None
    revision: str | None
    digest: str
    tokenizer_digest: str
    dtype: str
    chat_template_kwargs: dict[str, JsonValue] = {}
    fold_system: bool = True


class Asked(BaseModel):
    """Who or what asked for the retrain. `episode` is the drift episode, if it was drift."""

    model_config = ConfigDict(frozen=True)

    request: str
    trigger: Trigger
    reason: str
    episode: str | None
    at: datetime


class Leak(BaseModel):
    """The residual leak rate, of personal data planted for the audit, with its 95% interval."""

    model_config = ConfigDict(frozen=True)

    rate: float
    low: float
    high: float
    planted: int

    @classmethod
    def of(cls, audit: Audit) -> "Leak":
        low, high = audit.interval
        return cls(rate=audit.leak_rate, low=low, high=high, planted=audit.spans)

    def __str__(self) -> str:
        return (
            f"{self.rate:.1%} (95% interval {self.low:.1%} to {self.high:.1%},"
            f" {self.planted} pieces planted)"
        )


class Scrubbing(BaseModel):
    """How personal data was removed; what is empty is not known any more."""

    model_config = ConfigDict(frozen=True)

    policy: str
    policy_version: str
    detector: str
    key: str
    leak: Leak | None


class Training(BaseModel):
    """What was trained, and on what."""

    model_config = ConfigDict(frozen=True)

    conversations: int
    skipped_by: dict[str, int] = {}
    changed: dict[str, int] = {}
    turns_cut: int = 0
    remarks: tuple[str, ...] = ()
    tokens: int
    supervised_tokens: int
    steps: int
    best_step: int
    trainable_parameters: int
    device: str
    dtype: str
    processes: int
    seconds: float


class Cost(BaseModel):
    """What the run took. A training that came from the cache counts with what it took then."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    device_hours: float
    price_per_hour: float
    money: float


class Code(BaseModel):
    """Which Evergreen. `commit` is None outside of a git checkout; `digest` is of the source."""

    model_config = ConfigDict(frozen=True)

    version: str
    commit: str | None
    digest: str


class Lineage(BaseModel):
    """Where a version comes from. Digests and counts; no text of any conversation."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str | None
    adapter: str
    base: Weights
    asked: Asked
    judged_against: str | None
    train: tuple[Made, ...]
    holdout: tuple[Made, ...]
    contract: str
    contract_version: str
    scrub: Scrubbing
    readings: Readings = Readings()
    evaluation_sets: dict[str, str]
    training: Training
    cost: Cost
    mlflow_run: str
    prefect_run: str
    prefect_url: str
    code: Code
    libraries: dict[str, str]


class Retrained(Protocol):
    """What a retrain says of itself: `flows.report.RetrainReport` is one."""

    @property
    def request(self) -> Request: ...
    @property
    def scrub(self) -> ScrubReport: ...
    @property
    def training(self) -> FinetuneMetrics: ...
    @property
    def evaluation(self) -> Evaluation: ...
    @property
    def mlflow_run_id(self) -> str: ...
    @property
    def flow_run_id(self) -> str: ...
    @property
    def flow_run_url(self) -> str: ...
    @property
    def seconds(self) -> float: ...


def lineage(
    run: Retrained,
    *,
    base: Base,
    adapter: Adapter,
    parts: Split,
    champion: str | None,
    price_per_hour: float,
    version: str | None = None,
    asked: str | None = None,
) -> Lineage:
    """Put together where an adapter comes from. Reads manifests and the code, nothing else.

    Args:
        run: the retrain.
        base: what the adapter was trained on.
        adapter: what came out.
        parts: the snapshots it was trained on and judged by.
        champion: the version it was judged against.
        price_per_hour: of one device, in the operator's currency.
        version: the adapter's in the registry.
        asked: why the retrain was asked for. The request's own reason is that of its last
            change, "attempt 1" while it runs; the first line of its story in the ledger knows.
    """
    request, training = run.request, run.training
    train, holdout = (tuple(ancestors(part)) for part in (parts.train, parts.holdout))
    known = {made.stage: made.provenance for made in reversed(train)}
    contract, scrubbed = known.get("validate", {}), known.get("scrub", {})
    busy = max(run.seconds, training.total_seconds)
    device_hours = training.processes * busy / 3600
    return Lineage(
        model=request.model,
        version=version,
        adapter=adapter.digest,
        base=Weights(**base.model_dump(exclude={"path"}), hub=hub_id(base)),
        asked=Asked(
            request=request.id,
            trigger=request.trigger,
            reason=asked or request.reason,
            episode=request.episode if request.trigger == "drift" else None,
            at=request.requested_at,
        ),
        judged_against=champion,
        train=train,
        holdout=holdout,
        contract=contract.get("contract", ""),
        contract_version=contract.get("contract_version", ""),
        scrub=Scrubbing(
            policy=run.scrub.policy_digest,
            policy_version=scrubbed.get("policy_version", ""),
            detector=scrubbed.get("detector", ""),
            key=scrubbed.get("key", ""),
            leak=Leak.of(run.scrub.audit) if run.scrub.audit else None,
        ),
        readings=run.scrub.readings,
        evaluation_sets=run.evaluation.sets,
        training=Training(
            **training.model_dump(include=set(Training.model_fields)),
            seconds=training.train_seconds,
        ),
        cost=Cost(
            seconds=run.seconds,
            device_hours=device_hours,
            price_per_hour=price_per_hour,
            money=device_hours * price_per_hour,
        ),
        mlflow_run=run.mlflow_run_id,
        prefect_run=run.flow_run_id,
        prefect_url=run.flow_run_url,
        code=code(),
        libraries=libraries(LIBRARIES),
    )


def hub_id(base: Base) -> str | None:
    """The base's Hugging Face id; None of a folder or the bundled model."""
    cached = f"models--{base.id.replace('/', '--')}"  # as the hub's client names its folders
    return base.id if cached in Path(base.path).parts else None


def ancestors(snapshot: Snapshot) -> Iterator[Made]:
    """A snapshot, what it was made from, and so on, as far as the manifests can be read."""
    found: Snapshot | None = snapshot
    while found is not None:
        try:
            manifest = found.manifest()
        except DataError:
            if found is snapshot:
                yield Made(
                    digest=snapshot.digest,
                    stage="",
                    parent=None,
                    provenance={},
                    account=snapshot.account,
                )
            return
        yield Made(
            digest=found.digest,
            **manifest.model_dump(include={"stage", "parent", "provenance", "account"}),
        )
        found = _beside(found, manifest.parent)


def _beside(snapshot: Snapshot, digest: str | None) -> Snapshot | None:
    """The snapshot with this digest in the same place, by the name that its writer gave it."""
    if digest is None:
        return None
    fs, root = fsspec.url_to_fs(snapshot.path)
    folder = root.rstrip("/").rpartition("/")[0]
    for path in fs.glob(f"{folder}/*-{digest[:16]}"):
        return snapshot.model_copy(update={"path": fs.unstrip_protocol(path), "digest": digest})
    return None


def libraries(names: Sequence[str]) -> dict[str, str]:
    """{library: version} of those that are installed."""
    installed = {}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def code() -> Code:
    """The Evergreen that runs."""
    return Code(
        version=libraries(["evergreen-llm"]).get("evergreen-llm", "unknown"),
        commit=_commit(Path(__file__)),
        digest=project_version(),
    )


def _commit(file: Path) -> str | None:
    """The commit that `file` is of, `-dirty` if its checkout has changes; None if git does not
    know it, as where it is installed into an environment inside of somebody's checkout."""
    if shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=file.parent,
                capture_output=True,
                text=True,
                timeout=GIT_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", file.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
