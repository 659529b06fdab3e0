"""What is compared of a window: one exchange of each conversation, embedded and described.

One exchange a conversation, because the turns of a conversation resemble each other: taken
for independent, they would make every test see drift where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_contracts.digests import digest_json
from data_contracts.policy import PLACEHOLDER
from data_contracts.records import Record
from models.encoder import Encoder
from tasks.text import is_refusal, language

Vectors = NDArray[np.float32]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """One row a conversation: what its user asked and what was answered, as text (scrubbed),
    as vectors [n, d], and in numbers [n], not-a-number where unknown."""

    ids: list[str]
    user: list[str]
    assistant: list[str]
    language: list[str]
    user_vectors: Vectors
    assistant_vectors: Vectors
    numbers: Mapping[str, Numbers]

    def __len__(self) -> int:
        return len(self.ids)

    def save(self, path: Path) -> None:
        """Write to a Parquet file, which appears only when whole."""
        columns = {
            "id": self.ids,
            "user": self.user,
            "assistant": self.assistant,
            "language": self.language,
            "user_vector": list(self.user_vectors),
            "assistant_vector": list(self.assistant_vectors),
            **{f"number:{name}": values for name, values in self.numbers.items()},
        }
        partial = path.with_suffix(".partial")
        pq.write_table(pa.table(columns), partial, compression="zstd")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises OSError or pyarrow.ArrowException: missing or damaged."""
        table = pq.read_table(path)
        texts = {name: table[name].to_pylist() for name in ("id", "user", "assistant", "language")}
        vectors = {
            name: np.stack(table[name].to_numpy(zero_copy_only=False)).astype(np.float32)
            for name in ("user_vector", "assistant_vector")
        }
        return cls(
            ids=texts["id"],
            user=texts["user"],
            assistant=texts["assistant"],
            language=texts["language"],
            user_vectors=vectors["user_vector"],
            assistant_vectors=vectors["assistant_vector"],
            numbers={
                name.removeprefix("number:"): table[name].to_numpy(zero_copy_only=False)
                for name in table.column_names
                if name.startswith("number:")
            },
        )


def together(parts: Sequence[Features], limit: int) -> Features:
    """Several windows as one, at most `limit` rows of it, the first ones."""
    return Features(
        ids=[text for part in parts for text in part.ids][:limit],
        user=[text for part in parts for text in part.user][:limit],
        assistant=[text for part in parts for text in part.assistant][:limit],
        language=[text for part in parts for text in part.language][:limit],
        user_vectors=np.concatenate([part.user_vectors for part in parts])[:limit],
        assistant_vectors=np.concatenate([part.assistant_vectors for part in parts])[:limit],
        numbers={
            name: np.concatenate(
                [part.numbers.get(name, np.full(len(part), np.nan)) for part in parts]
            )[:limit]
            for name in dict.fromkeys(name for part in parts for name in part.numbers)
        },
    )


def one_exchange(record: Record) -> Record | None:
    """The record with one of its exchanges only, what a user said and what was answered, drawn
    by its content; None if no user message has an answer. `served` speaks of the last answer
    and stays as the conversation's."""
    pairs = [
        (asked, answered)
        for asked, answered in zip(record.messages, record.messages[1:], strict=False)
        if asked.role == "user" and answered.role == "assistant"
    ]
    if not pairs:
        return None
    chosen = pairs[int(record.content_digest[:12], 16) % len(pairs)]
    return record.model_copy(update={"messages": chosen, "labelled_spans": ()})


def sample(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """At most `count` records, drawn by their content: the same whatever their order."""
    ranked = sorted(records, key=lambda record: digest_json([seed, record.content_digest]))
    return ranked[:count]


def describe(
    records: Sequence[Record],
    encoder: Encoder,
    *,
    losses: Mapping[str, float] | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Features:
    """Embed and describe conversations; those without an answered question are left out.

    Args:
        records: scrubbed conversations with distinct ids.
        encoder: sentence encoder.
        losses: {record id: champion's loss in nats a token} of those that were scored.
        on_progress: called with (texts done, texts in all).
    """
    chosen = [narrow for record in records if (narrow := one_exchange(record)) is not None]
    user = [record.messages[0].text for record in chosen]
    assistant = [record.messages[1].text for record in chosen]
    both = encoder.encode([*user, *assistant], on_progress)
    scored = losses or {}
    served = [record.served for record in chosen]
    numbers = {
        "question length": _numbers(len(text.split()) for text in user),
        "personal data": _numbers(bool(PLACEHOLDER.search(text)) for text in user),
        "answer length": _numbers(len(text.split()) for text in assistant),
        "refusals": _numbers(is_refusal(text) for text in assistant),
        "feedback": _numbers(log.feedback if log else None for log in served),
        "latency": _numbers(log.latency_ms if log else None for log in served),
        "loss": _numbers(scored.get(record.id) for record in chosen),
    }
    return Features(
        ids=[record.id for record in chosen],
        user=user,
        assistant=assistant,
        language=[language(text) for text in user],
        user_vectors=both[: len(user)],
        assistant_vectors=both[len(user) :],
        numbers=numbers,
    )


def _numbers(values: object) -> Numbers:
    return np.array([np.nan if value is None else float(value) for value in values])  # type: ignore[attr-defined]
