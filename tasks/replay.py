"""Replay: what a drift retrain trains on.

All that the champion was trained on and judged by (a seeded sample of it, if it is much), so
that nothing is forgotten, and the conversations of the windows that drifted. An answer of the
champion itself is only learnt from if somebody approved of it: a model that trains on its own
answers learns nothing, or its own mistakes.

Whoever uses the model writes some of what it learns next. So no user contributes more than a share
of the new conversations, and the account says what rests on corrections and feedback.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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

# Why a new conversation is not learnt from.
DISLIKED = "answers that users disliked"
NOTHING = "answers that are not to be learnt"
TRUNCATED = "answers that were cut off"
OWN = "answers by the model itself that nobody approved of"
OVER_SHARE = "conversations beyond the share of one user (replay.max_share_per_user)"
OVER_MOST = "conversations beyond the share of one window (replay.max_new)"


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
    max_share_per_user: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Share of the new conversations that one user may contribute, where logs say"
        " who asked. Where there are too few users for that, an equal share; 1 for no limit.",
    )
    min_per_user: int = Field(
        default=10, ge=1, description="Conversations that a user may contribute whatever the share."
    )
    learn_truncated: bool = Field(
        default=False,
        description="Whether answers that were cut off (finish_reason `length`, a broken stream)"
        " are learnt.",
    )


class NewData(BaseModel):
    """The account of what is learnt from the windows that drifted. Counts are of conversations.

    `corrected` ones end in what a user says should have been answered, `approved` ones are the
    model's own answers that had good feedback. `users` are those told apart, `unnamed`
    conversations are of nobody known, so no share limits them. `cut_off` ones are learnt but for
    their last answer, which is not whole.
    """

    model_config = ConfigDict(frozen=True)

    learnt: int
    corrected: int
    approved: int
    users: int
    unnamed: int
    cut_off: int = 0
    left_out: dict[str, int]

    @property
    def is_steered(self) -> bool:
        """Whether users had a say in what is learnt, by corrections or feedback."""
        return bool(self.corrected or self.approved or self.left_out.get(DISLIKED))


class Replay(BaseModel):
    """The two parts of the data, and the account of the new one."""

    model_config = ConfigDict(frozen=True)

    old: Snapshot
    new: Snapshot
    account: NewData

    def verify(self) -> None:
        self.old.verify()
        self.new.verify()


@dataclass(frozen=True)
class Lesson:
    """A conversation as it should have gone, who asked, what speaks for its answer, and the number
    of the window it comes from."""

    record: Record
    user: str | None = None
    basis: Literal["logged", "correction", "feedback"] = "logged"
    window: int = 0


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
    lessons, account = new_lessons(windows, model, settings)
    if len(lessons) < settings.min_new:
        counts = [f"{count} {why}" for why, count in account.left_out.items()]
        reasons = ", ".join(counts) or "too little drifted"
        raise DataError(
            f"only {len(lessons)} conversations of what drifted can be learnt from ({reasons})",
            "log answers by people or a better model, or feedback; or lower replay.min_new,"
            " or set replay.learn_from to all",
        )
    parts: dict[Slice, list[Record]] = {
        OLD: _draw(list(old.values()), settings.max_old),
        NEW: [lesson.record for lesson in lessons],
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
    return Replay(old=snapshots[OLD], new=snapshots[NEW], account=account)


def new_lessons(
    windows: Sequence[Snapshot], model: str, settings: ReplaySettings
) -> tuple[list[Lesson], NewData]:
    """What is learnt from the windows, each giving its share, and the account of it."""
    left_out: Counter[str] = Counter()
    usable: list[Lesson] = []
    for number, window in enumerate(windows):
        for row, logged in enumerate(window.records()):
            # The log's own id may quote the conversation, and ids outlive the window.
            record = logged.model_copy(update={"id": f"window-{window.digest[:12]}-{row}"})
            lesson = learn(record, model, settings)
            if isinstance(lesson, str):
                left_out[lesson] += 1
            else:
                usable.append(replace(lesson, window=number))
    # Before the draw, so that one user leaves room for others; after it, as chance moves shares.
    allowed = limit_users(usable, settings)
    share = -(-settings.max_new // len(windows)) if windows else 0
    drawn = [
        lesson
        for number in range(len(windows))
        for lesson in _ranked(one for one in allowed if one.window == number)[:share]
    ]
    chosen = limit_users(drawn, settings)
    left_out[OVER_SHARE] = len(usable) - len(allowed) + len(drawn) - len(chosen)
    left_out[OVER_MOST] = len(allowed) - len(drawn)
    bases = Counter(lesson.basis for lesson in chosen)
    users = {lesson.user for lesson in chosen if lesson.user is not None}
    account = NewData(
        learnt=len(chosen),
        corrected=bases["correction"],
        approved=bases["feedback"],
        users=len(users),
        unnamed=sum(lesson.user is None for lesson in chosen),
        cut_off=sum(not lesson.record.messages[-1].learnt for lesson in chosen),
        left_out={why: count for why, count in left_out.most_common() if count},
    )
    return chosen, account


def limit_users(lessons: Sequence[Lesson], settings: ReplaySettings) -> list[Lesson]:
    """Those left when no user has more than `max_share_per_user` of them, or `min_per_user`."""
    counts = Counter(lesson.user for lesson in lessons if lesson.user is not None)
    unnamed = len(lessons) - counts.total()
    if not counts:
        return _ranked(lessons)
    # Whoever is unknown counts as another user each time.
    share = max(settings.max_share_per_user, 1 / (len(counts) + unnamed))

    def is_too_many(most: int) -> bool:
        total = unnamed + sum(min(count, most) for count in counts.values())
        return most > share * total * (1 + 1e-9)

    # What is too many stays so for every larger number: bisection finds the largest that is not.
    possible = range(1, max(counts.values()) + 1)
    most = max(settings.min_per_user, bisect_left(possible, True, key=is_too_many))
    taken: Counter[str] = Counter()
    kept = []
    for lesson in _ranked(lessons):
        if lesson.user is not None:
            taken[lesson.user] += 1
            if taken[lesson.user] > most:
                continue
        kept.append(lesson)
    return kept


def slice_of(source: str) -> Slice | None:
    """Which part a record read from one of these snapshots belongs to, by its source."""
    parts: tuple[Slice, ...] = (OLD, NEW)
    for part in parts:
        if source.startswith(f"replay-{part}-"):
            return part
    return None


def _draw(records: Sequence[Record], count: int) -> list[Record]:
    """A fair draw that is the same whatever the order: the smallest digests."""
    return sorted(records, key=_rank)[:count]


def _ranked(lessons: Iterable[Lesson]) -> list[Lesson]:
    return sorted(lessons, key=lambda lesson: _rank(lesson.record))


def _rank(record: Record) -> str:
    return digest_json(["replay", record.content_digest])


def learn(record: Record, model: str, settings: ReplaySettings) -> Lesson | str:
    """What is to be learnt from a conversation, or why nothing is.

    Who asked is no longer on the lesson's record: it stays in the window.
    """
    served = record.served
    if served is None:
        return Lesson(record) if record.teaches else NOTHING
    cut_off = served.finish_reason in CUT_OFF
    if cut_off and settings.learn_truncated:
        record = _with_answer_learnt(record)
    nameless = record.model_copy(update={"served": served.model_copy(update={"user": None})})
    if served.correction is not None:
        answer = Message(role="assistant", content=served.correction)
        corrected = nameless.model_copy(update={"messages": (*record.messages[:-1], answer)})
        return Lesson(corrected, served.user, "correction")
    if not record.teaches:
        return TRUNCATED if cut_off else NOTHING
    own = settings.learn_from == "approved" and is_own(served.model_version, model)
    if served.feedback is not None:
        if served.feedback < settings.good_feedback:
            return DISLIKED
        return Lesson(nameless, served.user, "feedback" if own else "logged")
    return OWN if own else Lesson(nameless, served.user)


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
