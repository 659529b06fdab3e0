"""Evaluation sets: frozen snapshots that every model answers to, and the slices of them.

| set | what it is |
|---|---|
| holdout | conversations held out from training; after drift old and new ones |
| regression | past failures that people added; it only grows |
| general | the base model's own answers to general questions, to see what is forgotten |
| your own | `evaluate.sets` |
| training | what the challenger was trained on, to see whether it is recited |
| red team | harmful and harmless prompts |
"""

from collections.abc import Iterable, Sequence
from importlib import resources
from itertools import islice, zip_longest

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.records import Message, Record
from data_contracts.snapshots import Snapshot, write_records
from data_contracts.workspace import Workspace
from models.adapters import load_model
from models.base import Base
from models.encoder import Encoder, EncoderSettings, shared
from models.generate import answers
from models.template import Dialogue, load_template
from tasks.evaluate.privacy import CanarySettings
from tasks.replay import slice_of
from tasks.stage import stage_task
from tasks.text import language, words

# Words of a conversation.
SHORT, LONG = 40, 150
# Topics are told apart among so many conversations at least.
TOPIC_ITEMS, TOPICS = 80, 4
# Sets that are there already.
RESERVED = frozenset({"holdout", "regression", "general", "training", "canaries"})


class UserSet(BaseModel):
    """An evaluation set of the user's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="As gates call it.")
    path: str = Field(description="Conversations, in any form that training data may have.")


class EvaluationSets(BaseModel):
    """What a model is measured on. `conversations` are scored; all but `general` answered too."""

    model_config = ConfigDict(frozen=True)

    conversations: dict[str, Snapshot]
    training: Snapshot | None = None
    canaries: CanarySettings = CanarySettings()


def choose(records: Iterable[Record], count: int) -> list[Record]:
    """At most `count` of them, in a retrain after drift old and new ones in turn."""
    by_source: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.id):
        by_source.setdefault(slice_of(record.source) or "", []).append(record)
    rounds = zip_longest(*by_source.values())
    return list(islice((r for turn in rounds for r in turn if r is not None), count))


def slices(records: Sequence[Record], encoder: Encoder) -> dict[str, dict[str, str]]:
    """{record id: {dimension: value}}: source (or old and new data), length, language, topic."""
    found: dict[str, dict[str, str]] = {}
    topics = _topics(records, encoder) if len(records) >= TOPIC_ITEMS else {}
    for record in records:
        part, size = slice_of(record.source), len(record.text.split())
        found[record.id] = {
            **({"data": part} if part else {"source": record.source}),
            "length": "short" if size < SHORT else "long" if size > LONG else "medium",
        }
        if code := language(record.text):
            found[record.id]["language"] = code
        if record.id in topics:
            found[record.id]["topic"] = topics[record.id]
    return found


def _topics(records: Sequence[Record], encoder: Encoder) -> dict[str, str]:
    """{record id: the words that tell its topic}: k-means of what users say, each cluster named
    by the words that are commonest in it beside the others."""
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [" ".join(m.content for m in record.messages if m.role == "user") for record in records]
    cluster = KMeans(TOPICS, random_state=0, n_init=4).fit_predict(encoder.encode(texts))
    terms = TfidfVectorizer(analyzer=words, stop_words=None)
    joined = [" ".join(t for t, c in zip(texts, cluster, strict=True) if c == k) for k in range(4)]
    weights = terms.fit_transform(joined).toarray()
    vocabulary = np.array(terms.get_feature_names_out())
    telling = weights - weights.mean(axis=0)
    names = [" ".join(vocabulary[np.argsort(-row)[:3]]) for row in telling]
    return {record.id: names[c] for record, c in zip(records, cluster, strict=True)}


def general(base: Base, workspace: Workspace, max_new_tokens: int, seed: int = 7) -> Snapshot:
    """Answers that the base model draws from its own distribution, as conversations.

    A tuned model's mean loss on them less the base's is an estimate of the Kullback-Leibler
    divergence of the two, KL(base || tuned), in nats a token.
    """
    file = resources.files("tasks.evaluate").joinpath("general.yaml")
    questions = [Message(role="user", content=text) for text in yaml.safe_load(file.read_text())]
    said = answers(
        load_model(base),
        load_template(base),
        [Dialogue((question,)) for question in questions],
        max_new_tokens=max_new_tokens,
        sample_seed=seed,
    )
    return write_records(
        str(workspace.snapshots),
        "general",
        [
            Record(
                id=f"general-{number}",
                messages=(question, Message(role="assistant", content=answer.text)),
                source="base model",
            )
            for number, (question, answer) in enumerate(zip(questions, said, strict=True))
            if answer.text
        ],
        parent=None,
        provenance={"base": base.digest, "seed": str(seed)},
    )


@stage_task(
    "general text",
    produces="models/general",
    description="What the base model says to general questions, drawn from its distribution.",
)
def general_task(base: Base, max_new_tokens: int, workspace: Workspace) -> Snapshot:
    return general(base, workspace, max_new_tokens)


@stage_task(
    "slices",
    produces="conversations/slices",
    description="Source, length, language and topic of the held-out conversations.",
)
def slices_task(
    holdout: Snapshot, max_items: int, encoder: EncoderSettings
) -> dict[str, dict[str, str]]:
    return slices(choose(holdout.records(), max_items), shared(encoder))
