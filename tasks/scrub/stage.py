"""The scrub stage: rows of the sources in, a snapshot without personal data out."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import digest_json
from data_contracts.errors import DataError, RowRejected
from data_contracts.policy import ScrubPolicy
from data_contracts.records import Message, Record
from data_contracts.snapshots import QuarantinedRow, RowAccount, Snapshot, SnapshotWriter
from data_contracts.workspace import Workspace
from tasks.ingest import Listing
from tasks.progress import StageProgress
from tasks.stage import stage_task

if TYPE_CHECKING:
    from tasks.scrub.engine import ScrubbedMessages, Scrubber

Progress = Callable[[int, int], None]


class ScrubSettings(BaseModel):
    """How personal data is removed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str | None = Field(
        default=None, description="A scrub policy file; default `data_contracts/scrub_policy.yaml`."
    )


class ScrubReport(BaseModel):
    """Counts only; no value that was found is in here."""

    model_config = ConfigDict(frozen=True)

    account: RowAccount
    policy_digest: str
    findings: dict[str, int]
    quarantined: dict[str, int]
    labelled: dict[str, int] = Field(
        description="Labelled spans of personal data, an entity, where the source brings labels."
    )
    covered: dict[str, int] = Field(description="Those of them that were replaced as a whole.")


class Scrubbed(BaseModel):
    model_config = ConfigDict(frozen=True)

    snapshot: Snapshot
    report: ScrubReport

    def verify(self) -> None:
        self.snapshot.verify()


def scrub(
    listing: Listing,
    policy: ScrubPolicy,
    workspace: Workspace,
    on_progress: Progress = lambda *_: None,
) -> Scrubbed:
    """Scrub every row and write those that pass to a snapshot.

    A row that cannot be read as a conversation or cannot be scrubbed is quarantined;
    exact duplicates (before or after the scrub) are counted and dropped.

    Raises:
        DataError: no row passed.
    """
    from tasks.scrub.engine import Scrubber  # loads spaCy: seconds

    scrubber = Scrubber(policy)
    tally = Tally()
    with SnapshotWriter(
        str(workspace.snapshots),
        "scrub",
        parent=None,
        provenance={"policy": policy.digest, "policy_version": str(policy.version)},
    ) as writer:
        scrub_rows(listing, scrubber, writer.write, writer.quarantine, tally, on_progress)
        report = tally.report(policy.digest)
        if not report.account.rows_out:
            raise no_rows_left(report)
        snapshot = writer.commit(rows_in=tally.rows_in, duplicates=tally.duplicates)
    return Scrubbed(snapshot=snapshot, report=report)


class Tally:
    """What happened to the rows so far."""

    def __init__(self) -> None:
        self.rows_in = self.rows_out = self.duplicates = 0
        self.quarantined: Counter[str] = Counter()
        self.findings: Counter[str] = Counter()
        self.labelled: Counter[str] = Counter()
        self.covered: Counter[str] = Counter()

    def report(self, policy_digest: str) -> ScrubReport:
        """Raises pydantic.ValidationError if the rows do not balance."""
        return ScrubReport(
            account=RowAccount(
                rows_in=self.rows_in,
                rows_out=self.rows_out,
                quarantined=self.quarantined.total(),
                duplicates=self.duplicates,
            ),
            policy_digest=policy_digest,
            findings=dict(self.findings.most_common()),
            quarantined=dict(self.quarantined.most_common()),
            labelled=dict(self.labelled.most_common()),
            covered=dict(self.covered),
        )


def scrub_rows(
    listing: Listing,
    scrubber: "Scrubber",
    keep: Callable[[Record], None],
    quarantine: Callable[[QuarantinedRow], None],
    tally: Tally,
    on_progress: Progress = lambda *_: None,
) -> None:
    """Stream the listing through the scrubber into `keep` and `quarantine`."""
    raw_seen: set[str] = set()
    clean_seen: set[str] = set()
    ids: set[str] = set()
    total = listing.rows_in
    for file, row in listing.rows():
        tally.rows_in += 1
        reject = partial(
            QuarantinedRow, id=f"{file.name}:{row.position}", digest=row.digest, source=file.name
        )
        try:
            record = row.parse(file.name)
            if record.content_digest in raw_seen:
                tally.duplicates += 1
                continue
            raw_seen.add(record.content_digest)
            scrubbed, clean = scrub_record(record, scrubber, ids)
        except RowRejected as rejected:
            tally.quarantined[rejected.rule] += 1
            quarantine(reject(rule=rejected.rule))
            continue
        if scrubbed.content_digest in clean_seen:
            tally.duplicates += 1
            continue
        clean_seen.add(scrubbed.content_digest)
        ids.add(scrubbed.id)
        tally.rows_out += 1
        tally.findings += clean.findings
        tally.labelled += clean.labelled
        tally.covered += clean.covered
        keep(scrubbed)
        on_progress(tally.rows_in, total)
    on_progress(total, total)


def scrub_record(
    record: Record, scrubber: "Scrubber", taken: set[str]
) -> tuple[Record, "ScrubbedMessages"]:
    """A record without personal data, under an id that is not in `taken`, and what was found.

    Raises:
        RowRejected: it cannot be scrubbed.
    """
    served = record.served
    messages = list(record.messages)
    if served and served.correction is not None:
        messages.append(Message(role="assistant", content=served.correction))
    try:
        clean = scrubber.scrub(messages, record.labelled_spans)
        identifier = safe_id(record.id, record.content_digest, scrubber, taken)
        if served:
            served = served.model_copy(
                update={
                    "workload": safe_name(served.workload, scrubber),
                    "model_version": safe_name(served.model_version, scrubber),
                    "correction": None if served.correction is None else clean.messages[-1].content,
                }
            )
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # A recogniser broke on this text. Its message may quote the text: keep the type.
        raise RowRejected(f"scrub: {type(error).__name__} in a recogniser") from None
    scrubbed = Record(
        id=identifier,
        messages=clean.messages[: len(record.messages)],
        created_at=record.created_at,
        source=record.source,
        served=served,
    )
    return scrubbed, clean


def safe_name(name: str | None, scrubber: "Scrubber") -> str | None:
    """The name of a workload or model, unless it is personal data."""
    if name is None or not scrubber.find(name):
        return name
    return f"name~{digest_json(name)[:12]}"


def safe_id(identifier: str, digest: str, scrubber: "Scrubber", taken: set[str]) -> str:
    """The record's id, unless it is personal data itself or taken: then one made of its digest."""
    if not is_uuid(identifier) and scrubber.find(identifier):
        return f"row~{digest[:12]}"
    return f"{identifier}~{digest[:12]}" if identifier in taken else identifier


def is_uuid(text: str) -> bool:
    """Random digits in a UUID may look like a telephone number, but are not."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def no_rows_left(report: ScrubReport) -> DataError:
    rule, count = max(report.quarantined.items(), key=lambda item: item[1])
    return DataError(
        f"none of {report.account.rows_in} rows can be used; {count} broke the rule {rule!r}",
        "rows are JSON objects with messages: [{role, content}, ...], prompt/response, or"
        " instruction/output",
    )


@stage_task(
    "scrub",
    produces="conversations/scrubbed",
    description="Conversations with personal data replaced by placeholders.",
    code=("data_contracts", "tasks.sources", "tasks.ingest", "tasks.scrub"),
)
def scrub_task(listing: Listing, policy: ScrubPolicy, workspace: Workspace) -> Scrubbed:
    return scrub(listing, policy, workspace, StageProgress("scrub", "rows"))
