"""Replay: what a drift retrain trains on.

All that the champion was trained on and judged by (a seeded sample of it, if it is much), so
that nothing is forgotten, and the conversations of the windows that drifted. An answer of the
champion itself is only learnt from if somebody approved of it: a model that trains on its own
answers learns nothing, or its own mistakes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import digest_json
from data_contracts.errors import DataError
from data_contracts.inference_logs import CUT_OFF
from data_contracts.records import Message, Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from tasks.stage import stage_task

Slice = Literal["old", "new"]
OLD: Slice = "old"
NEW: Slice = "new"


class ReplaySettings(BaseModel):
    """What a retrain after drift trains on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_old: int = Field(
        default=20_000, ge=0, description="Conversations of the champion's own data, at most."
    )
    max_new: int = Field(
        default=5_000,
        ge=1,
        description="Conversations of the windows that drifted, at most; each gives its share.",
    )
    min_new: int = Field(
        default=50, ge=1, description="Fewer new ones to learn from, and nothing is trained."
    )
    learn_from: Literal["approved", "all"] = Field(
        default="approved",
        description="`approved`: the champion's own answers only with good feedback or corrected.",
    )
    good_feedback: float = Field(
        default=0.5, description="Feedback at or above this approves of an answer, below rejects."
    )
    learn_truncated: bool = Field(
        default=False,
        description="Whether answers that were cut off (finish_reason `length`, a broken stream)"
        " are learnt.",
    )


class Replay(BaseModel):
    """The two parts of the data.

    `left_out` counts conversations that are in neither, `truncated` those in `new` whose last
    answer was cut off and is not learnt.
    """

    model_config = ConfigDict(frozen=True)

    old: Snapshot
    new: Snapshot
    left_out: dict[str, int]
    truncated: int = 0

    @property
    def told(self) -> dict[str, int]:
        """What a report says beside the rows: {what is not learnt: conversations}."""
        last = {"cut-off answers, of conversations that are learnt": self.truncated}
        return self.left_out | ({} if self.truncated == 0 else last)

    def verify(self) -> None:
        self.old.verify()
        self.new.verify()


def replay(
    champion_data: Sequence[Snapshot],
    windows: Sequence[Snapshot],
    model: str,
    settings: ReplaySettings,
    workspace: Workspace,
) -> Replay:
    """Write both parts as snapshots.

    Raises:
        DataError: fewer than `min_new` conversations can be learnt from.
    """
    old = {record.id: record for snapshot in champion_data for record in snapshot.records()}
    share = -(-settings.max_new // len(windows)) if windows else 0
    left_out: Counter[str] = Counter()
    new: dict[str, Record] = {}
    for window in windows:
        usable = []
        for record in window.records():
            lesson = learn(record, model, settings)
            if isinstance(lesson, str):
                left_out[lesson] += 1
            else:
                usable.append(lesson)
        new |= {record.id: record for record in _draw(usable, share)}
    if len(new) < settings.min_new:
        counts = [f"{count} {why}" for why, count in left_out.most_common()]
        reasons = ", ".join(counts) or "too little drifted"
        raise DataError(
            f"only {len(new)} conversations of what drifted can be learnt from ({reasons})",
            "log answers by people or a better model, or feedback; or lower replay.min_new,"
            " or set replay.learn_from to all",
        )
    parts: dict[Slice, list[Record]] = {
        OLD: _draw(list(old.values()), settings.max_old),
        NEW: list(new.values()),
    }
    snapshots = {
        part: write_records(
            str(workspace.snapshots),
            f"replay-{part}",
            records,
            parent=None,
            provenance={"from": ",".join(s.digest[:16] for s in (*champion_data, *windows))},
        )
        for part, records in parts.items()
    }
    return Replay(
        old=snapshots[OLD],
        new=snapshots[NEW],
        left_out=dict(left_out.most_common()),
        truncated=sum(not record.messages[-1].learnt for record in parts[NEW]),
    )


def slice_of(source: str) -> Slice | None:
    """Which part a record read from one of these snapshots belongs to, by its source."""
    parts: tuple[Slice, ...] = (OLD, NEW)
    for part in parts:
        if source.startswith(f"replay-{part}-"):
            return part
    return None


def _draw(records: Sequence[Record], count: int) -> list[Record]:
    """A fair draw that is the same whatever the order: the smallest digests."""
    ranked = sorted(records, key=lambda record: digest_json(["replay", record.content_digest]))
    return ranked[:count]


def learn(record: Record, model: str, settings: ReplaySettings) -> Record | str:
    """The conversation as it should have gone, or why nothing is to be learnt from it."""
    served = record.served
    if served is not None and served.correction is not None:
        answer = Message(role="assistant", content=served.correction)
        return record.model_copy(update={"messages": (*record.messages[:-1], answer)})
    cut_off = served is not None and served.finish_reason in CUT_OFF
    if cut_off and settings.learn_truncated:
        record = _with_answer_learnt(record)
    if not record.teaches:
        return "answers that were cut off" if cut_off else "answers that are not to be learnt"
    if served is None:
        return record
    if served.feedback is not None:
        if served.feedback < settings.good_feedback:
            return "answers that users disliked"
    elif settings.learn_from == "approved" and is_own(served.model_version, model):
        return "answers by the model itself that nobody approved of"
    return record


def _with_answer_learnt(record: Record) -> Record:
    *before, answer = record.messages
    answer = answer.model_copy(update={"learnt": True})
    return record.model_copy(update={"messages": (*before, answer)})


def is_own(version: str | None, model: str) -> bool:
    """Whether a logged model name is one of ours: `NAME`, `NAME:3`, `models:/NAME@champion`, ..."""
    return bool(version and re.fullmatch(rf"(models:/)?{re.escape(model)}([:/@].*)?", version))


@stage_task(
    "replay",
    produces="conversations/replay",
    description="The champion's own data and what drifted, to train on.",
)
def replay_task(
    champion_data: tuple[Snapshot, ...],
    windows: tuple[Snapshot, ...],
    model: str,
    settings: ReplaySettings,
    workspace: Workspace,
) -> Replay:
    return replay(champion_data, windows, model, settings, workspace)
