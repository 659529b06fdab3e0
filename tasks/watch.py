"""Watch: the steps from new log records to features that can be compared."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from open_data_contract_standard.model import OpenDataContractStandard
from prefect import task
from pyarrow import ArrowException
from pydantic import BaseModel, ConfigDict, model_validator

from data_contracts import log_users
from data_contracts.digests import digest_file, digest_json
from data_contracts.errors import DataError, RowRejected
from data_contracts.home_keys import LOGS, ROWS, home_key, keyed_json
from data_contracts.records import Message, Record
from data_contracts.snapshots import QuarantinedRow, Snapshot, SnapshotWriter
from data_contracts.workspace import HomePath, Workspace
from models.adapters import load_model
from models.chat import Example, encode_all
from models.encoder import Encoder, EncoderSettings
from models.score import score, sum_by_id
from models.template import load_template
from tasks.drift.compare import DriftSettings
from tasks.drift.features import Features, describe, sample, together
from tasks.ledger.episodes import JudgedWindow
from tasks.logs import Entry, LogKeys, LogWindow, Pending, WatchSettings, read
from tasks.paths import shown
from tasks.progress import StageProgress
from tasks.registry import LoadedVersion
from tasks.row_boundary import row_boundary
from tasks.scrub.records import scrub_records
from tasks.scrub.workers import Search
from tasks.stage import stage_task
from tasks.validate import check

FEATURES = "features.parquet"
# Of a conversation that the champion scores: the tokens that count, and what surely holds them.
SCORED_TOKENS = 512
SCORED_TURNS = 64
SCORED_CHARACTERS = 40 * SCORED_TOKENS


class WindowAccount(BaseModel):
    """Records = kept + quarantined + contained in a later request + not in the sample."""

    model_config = ConfigDict(frozen=True)

    records: int
    kept: int
    quarantined: int
    contained: int
    not_sampled: int

    @model_validator(mode="after")
    def _balances(self) -> Self:
        if self.records != self.kept + self.quarantined + self.contained + self.not_sampled:
            raise ValueError(f"records do not balance: {self}")
        return self


class KeptWindow(BaseModel):
    """A window's conversations, scrubbed, as a snapshot."""

    model_config = ConfigDict(frozen=True)

    id: str
    start: int
    end: int
    snapshot: Snapshot
    account: WindowAccount
    quarantined: dict[str, int]


class FeaturesFile(BaseModel):
    """Features on disk, with the digest of their file."""

    model_config = ConfigDict(frozen=True)

    path: HomePath
    digest: str
    rows: int

    def verify(self) -> None:
        """Raises DataError: the file is missing or changed."""
        path = Path(self.path)
        if not path.is_file() or digest_file(path) != self.digest:
            raise DataError(f"{path} is missing or damaged", "run again; it will be made anew")


@dataclass(frozen=True)
class ScrubbedWindow:
    """A sample of a window's conversations without personal data, and rows that cannot be used."""

    window: LogWindow
    sampled: int
    records: list[Record]
    quarantined: list[QuarantinedRow]


@task(name="scrub window", task_run_name="scrub window", persist_result=False)
def keep_window_task(
    window: LogWindow,
    pending: Pending,
    settings: WatchSettings,
    search: Search,
    key: bytes | None,
    contract: OpenDataContractStandard,
    workspace: Workspace,
) -> KeptWindow:
    """Scrub (a sample of) the window in memory and keep what holds the contract."""
    progress = StageProgress("scrub-window", "conversations")
    keys = LogKeys(
        records=home_key(workspace, LOGS),
        users=home_key(workspace, log_users.KEY),
        rows=home_key(workspace, ROWS),
        pseudonyms=key,
    )
    scrubbed = scrub_window(window, pending, settings.max_records, search, keys, progress)
    return keep_window(scrubbed, search.policy.digest, contract, workspace)


def scrub_window(
    window: LogWindow,
    pending: Pending,
    most: int,
    search: Search,
    keys: LogKeys,
    on_progress: Callable[[int, int], None],
) -> ScrubbedWindow:
    """Read and scrub at most so many of a window's conversations.

    Raises:
        DataError: a file is not what it was when it was looked at.
    """
    chosen = window.sample(most)
    records: list[Record] = []
    quarantined: list[QuarantinedRow] = []
    read_now = _readable(pending, chosen, keys, quarantined)
    for done, (record, clean) in enumerate(
        scrub_records(read_now, search, keys.pseudonyms), start=1
    ):
        if isinstance(clean, RowRejected):
            quarantined.append(_quarantined(record, clean.rule, keys.rows))
        else:
            records.append(clean.model_copy(update={"source": f"window-{window.id}"}))
        on_progress(done, len(chosen))
    return ScrubbedWindow(window, len(chosen), records, quarantined)


def keep_window(
    scrubbed: ScrubbedWindow,
    policy: str,
    contract: OpenDataContractStandard,
    workspace: Workspace,
) -> KeptWindow:
    """Write what holds the contract to a snapshot; `policy` is the digest of the scrub policy."""
    window, records, sampled = scrubbed.window, scrubbed.records, scrubbed.sampled
    broken = check(records, contract).broken if records else {}
    row_key = home_key(workspace, ROWS)
    quarantined = [
        *scrubbed.quarantined,
        *(_quarantined(records[index], rule, row_key) for index, rule in broken.items()),
    ]
    with SnapshotWriter(
        str(workspace.snapshots),
        "window",
        parent=None,
        provenance={
            "window": window.id,
            "policy": policy,
            "contract": str(contract.id),
            "contract_version": str(contract.version),
        },
    ) as writer:
        for index, record in enumerate(records):
            if index not in broken:
                writer.write(record)
        for row in quarantined:
            writer.quarantine(row)
        snapshot = writer.commit(rows_in=sampled)
    return KeptWindow(
        id=window.id,
        start=window.start,
        end=window.end,
        snapshot=snapshot,
        account=WindowAccount(
            records=len(window.entries),
            kept=snapshot.account.rows_out,
            quarantined=len(quarantined),
            contained=len(window.entries) - len(window.conversations),
            not_sampled=len(window.conversations) - sampled,
        ),
        quarantined=dict(Counter(row.rule for row in quarantined).most_common()),
    )


def _readable(
    pending: Pending, chosen: Sequence[Entry], keys: LogKeys, quarantined: list[QuarantinedRow]
) -> Iterator[Record]:
    """The records of entries; those that cannot be read this time are added to `quarantined`."""
    for entry, record in read(pending.files, chosen, keys):
        if isinstance(record, RowRejected):
            name = shown(pending.files[entry.file].uri.rsplit("/", 1)[-1])
            where = f"{name}:{entry.position}"
            digest = entry.digest.hex()
            row = QuarantinedRow(id=where, rule=record.rule, digest=digest, source=name)
            quarantined.append(row)
        else:
            yield record


def _quarantined(record: Record, rule: str, key: bytes) -> QuarantinedRow:
    # Its id and its file's name may be personal data, and nothing looked at them yet.
    return QuarantinedRow(
        id=f"record~{keyed_json(key, 'id', record.id)[:16]}",
        rule=rule,
        digest=keyed_json(key, "quarantine", record.content_digest),
        source=shown(record.source.rsplit("/", 1)[-1]),
    )


@task(name="describe window", task_run_name="describe window", persist_result=False)
def describe_window_task(
    kept: KeptWindow,
    champion: LoadedVersion,
    encoder: Encoder,
    settings: DriftSettings,
    workspace: Workspace,
) -> tuple[Features, Path]:
    """Embed the window, have the champion score some of it, and write the features down.

    Returns:
        (the features, the file they are in); the window's report goes beside it
    """
    records = list(kept.snapshot.records())
    losses = champion_losses(sample(records, settings.score_records, settings.seed), champion)
    progress = StageProgress("describe-window", "texts")
    features = describe(records, encoder, losses=losses, on_progress=progress)
    folder = workspace.windows / champion.version.name / kept.id
    folder.mkdir(parents=True, exist_ok=True)
    features.save(folder / FEATURES)
    return features, folder / FEATURES


def champion_losses(records: Sequence[Record], champion: LoadedVersion) -> Mapping[str, float]:
    """{record id: the champion's loss on the logged answers, nats a token}.

    A conversation that the chat template does not take has none.
    """
    if not records:
        return {}
    template = load_template(champion.base)
    examples: list[Example] = []
    for record in records:
        with suppress(RowRejected), row_boundary("score"):
            short = record.model_copy(update={"messages": tuple(beginning(record.messages))})
            examples += encode_all(template, [short], SCORED_TOKENS)[0]
    model = load_model(champion.base, champion.adapter)
    scored = sum_by_id(score(model, examples, template.tokenizer.pad_token_id))
    losses = {item.id: item.loss_sum / item.tokens for item in scored if item.tokens}
    return {name: loss for name, loss in losses.items() if math.isfinite(loss)}


def beginning(messages: Sequence[Message]) -> list[Message]:
    """As much of a conversation as can be scored, so that no template gets more to render.

    A template may take a time that grows with the square of what it renders.
    """
    kept: list[Message] = []
    left = SCORED_CHARACTERS
    for message in messages[:SCORED_TURNS]:
        if left <= 0:
            break
        content = message.content[:left]
        left -= len(message.text)
        kept.append(message.model_copy(update={"content": content}))
    return kept


@stage_task(
    "reference",
    produces="drift/reference",
    description="What the champion was trained on, embedded.",
)
def reference_task(
    data: tuple[Snapshot, ...],
    encoder: EncoderSettings,
    settings: DriftSettings,
    workspace: Workspace,
) -> FeaturesFile:
    records = {record.id: record for snapshot in data for record in snapshot.records()}
    chosen = sample(list(records.values()), settings.reference_records, settings.seed)
    progress = StageProgress("reference", "texts")
    features = describe(chosen, Encoder(encoder), on_progress=progress)
    workspace.windows.mkdir(parents=True, exist_ok=True)
    name = digest_json([[s.digest for s in data], encoder.model_dump(), settings.seed, len(chosen)])
    path = workspace.windows / f"reference-{name[:16]}.parquet"
    features.save(path)
    return FeaturesFile(path=str(path), digest=digest_file(path), rows=len(features))


def settled(judged: Sequence[JudgedWindow], settings: DriftSettings) -> Features | None:
    """The first windows that were quiet under this champion; None if there are none left."""
    parts: list[Features] = []
    for window in judged:
        if window.verdict == "quiet" and sum(map(len, parts)) < settings.reference_records:
            try:
                parts.append(Features.load(Path(window.features)))
            except (OSError, ArrowException):
                continue  # deleted by retention, or by hand: later ones do as well
    return together(parts, settings.reference_records) if parts else None
