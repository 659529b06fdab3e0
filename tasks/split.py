"""Split: conversations to train on and conversations to be judged on, never the same.

Conversations without an answer to learn (one that people labelled undesirable, say) are on
neither side; they are quarantined with the reason.

The side is a hash of the conversation's own text, so a conversation that was held out
once is held out in every later run. Near-duplicates (MinHash, estimated Jaccard
similarity of word 3-grams at least `similarity`) are put on one side together.
"""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import digest_json
from data_contracts.errors import DataError
from data_contracts.home_keys import ROWS, home_key
from data_contracts.records import Record
from data_contracts.snapshots import QuarantinedRow, Snapshot, quarantine_row, write_records
from data_contracts.workspace import Workspace
from tasks.stage import stage_task
from tasks.validate import Validated

PERMUTATIONS = 64
SHINGLE = 3


class SplitSettings(BaseModel):
    """How much to hold out for evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    holdout: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the conversations held out."
    )
    min_holdout: int = Field(
        default=8, ge=1, description="Hold out at least this many, if the share gives fewer."
    )
    similarity: float = Field(
        default=0.7, gt=0, le=1, description="Jaccard similarity that makes a near-duplicate."
    )
    seed: int = Field(default=7, ge=0, description="Another seed holds out other conversations.")
    min_rating: float | None = Field(
        default=None,
        description="Learn only from answers that people rated so high, of those that are rated;"
        " default all.",
    )


class Split(BaseModel):
    model_config = ConfigDict(frozen=True)

    train: Snapshot
    holdout: Snapshot
    near_duplicate_groups: int
    set_aside: dict[str, int] = {}

    def verify(self) -> None:
        self.train.verify()
        self.holdout.verify()


def split(validated: Snapshot, settings: SplitSettings, workspace: Workspace) -> Split:
    """Write the two sides as snapshots.

    Raises:
        DataError: too few conversations for both sides.
    """
    records: list[Record] = []
    set_aside: list[QuarantinedRow] = []
    key = home_key(workspace, ROWS)
    for record in validated.records():
        if (reason := nothing_to_learn(record, settings)) is None:
            records.append(record)
        else:
            set_aside.append(quarantine_row(record, reason, key))
    groups = near_duplicates([record.text for record in records], settings.similarity)
    sides = assign([record.content_digest for record in records], groups, settings)
    if not any(sides) or all(sides):
        raise DataError(
            f"{len(records)} conversations with an answer to learn are too few to train on and"
            f" hold out {settings.min_holdout}",
            "give more data, or lower split.min_holdout",
        )
    train, holdout = (
        write_records(
            str(workspace.snapshots),
            name,
            (record for record, held in zip(records, sides, strict=True) if held is side),
            parent=validated.digest,
            provenance={"split": settings.model_dump_json()},
            quarantined=[] if side else set_aside,
        )
        for name, side in (("train", False), ("holdout", True))
    )
    return Split(
        train=train,
        holdout=holdout,
        near_duplicate_groups=len(groups) - len(set(groups)),
        set_aside=dict(Counter(row.rule for row in set_aside).most_common()),
    )


def nothing_to_learn(record: Record, settings: SplitSettings) -> str | None:
    """Why nothing is to be learnt from a conversation; None if something is."""
    if record.desirable is False:
        return "nothing to learn: labelled undesirable"
    least = settings.min_rating
    if least is not None and record.rating is not None and record.rating < least:
        return f"nothing to learn: rated below {least:g}"
    return None if record.teaches else "nothing to learn: no answer is to be learnt"


def near_duplicates(texts: Sequence[str], similarity: float) -> list[int]:
    """The group of each text: texts linked by near-duplication share the smallest index."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    hashes = MinHash.bulk([_shingles(text) for text in texts], num_perm=PERMUTATIONS)
    group = list(range(len(texts)))

    def root(item: int) -> int:
        while group[item] != item:
            group[item] = group[group[item]]
            item = group[item]
        return item

    for item, signature in enumerate(hashes):
        for other in index.query(signature):
            if signature.jaccard(hashes[other]) >= similarity:
                low, high = sorted((root(other), root(item)))
                group[high] = low
        index.insert(item, signature)
    return [root(item) for item in range(len(texts))]


def _shingles(text: str) -> list[bytes]:
    words = text.casefold().split()
    return [
        " ".join(words[at : at + SHINGLE]).encode("utf-8")
        for at in range(max(1, len(words) - SHINGLE + 1))
    ]


def assign(digests: Sequence[str], groups: Sequence[int], settings: SplitSettings) -> list[bool]:
    """True for each conversation that is held out; a group is never torn apart.

    A group goes where the smallest digest in it hashes to, so the order of the
    conversations does not matter.
    """
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    draws = {
        group: int(digest_json([settings.seed, min(digests[i] for i in indices)])[:15], 16) / 16**15
        for group, indices in members.items()
    }
    held = [False] * len(digests)
    count = 0
    for group in sorted(members, key=lambda group: draws[group]):
        if draws[group] >= settings.holdout and count >= settings.min_holdout:
            break
        for index in members[group]:
            held[index] = True
        count += len(members[group])
    return held


@stage_task(
    "split",
    produces="conversations/split",
    description="Training and held-out conversations, near-duplicates on one side.",
)
def split_task(validated: Validated, settings: SplitSettings, workspace: Workspace) -> Split:
    return split(validated.snapshot, settings, workspace)
