"""Human review: people say which of two answers is better, and cannot know whose is whose.

A sheet shows the challenger's and the bar's answers side by side, in random order and on random
sides. Its key, a file apart, says which is which; so scores mean something only beside the key.
"""

import csv
import io
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field

from data_contracts.digests import digest_bytes, digest_json, digest_model
from data_contracts.errors import ConfigError, RegistryError
from data_contracts.partial import partial_folder, publish
from tasks.decide import Verdict
from tasks.documents import REVIEW, VERDICT, Documents
from tasks.evaluate.measures import Evaluation, Measure, Measures, Sample, mean
from tasks.registry import Version
from tasks.tracking import log_results

Side = Literal["A", "B"]
Score = Literal["A", "B", "tie", "bad"]
Outcome = Literal["challenger", "bar", "tie", "bad"]

SCORES: dict[str, Score] = {score.casefold(): score for score in get_args(Score)}
# In favour of the challenger.
POINTS: dict[Outcome, float] = {"challenger": 1.0, "bar": -1.0, "tie": 0.0, "bad": 0.0}

PAGE, TABLE, KEY = "review.html", "review.csv", "key.json"
TEMPLATE = "review.html.j2"
COLUMNS = ("item", "prompt", "answer_a", "answer_b", "score", "comment")
# A spreadsheet would take what begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Item(BaseModel):
    """What a reviewer sees of one conversation."""

    model_config = ConfigDict(frozen=True)

    name: str
    prompt: str
    a: str
    b: str


class Place(BaseModel):
    """Which conversation an item is, and on which side the challenger's answer stands."""

    model_config = ConfigDict(frozen=True)

    conversation: str
    challenger: Side


class Key(BaseModel):
    """What a sheet does not say. `answers` is the digest of all that could be on it."""

    model_config = ConfigDict(frozen=True)

    sheet: str
    model: str
    version: str
    bar: str
    answers: str
    seed: str
    items: dict[str, Place]


class Scored(BaseModel):
    """What a reviewer says of one conversation."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    comment: str = ""


class Review(BaseModel):
    """What one person says of a version: {conversation: outcome}, and the keys it was read with."""

    model_config = ConfigDict(frozen=True)

    scores: dict[str, Outcome]
    keys: tuple[str, ...]
    at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[Outcome, int]:
        counted = Counter(self.scores.values())
        return {outcome: counted[outcome] for outcome in POINTS}


class Reviews(BaseModel):
    """What everybody says of a version: `review.json` of its MLflow run, without any text."""

    model_config = ConfigDict(frozen=True)

    bar: str
    answers: str
    reviewers: dict[str, Review] = Field(default={})

    def add(self, reviewer: str, scored: Mapping[str, Scored], key: Key) -> "Reviews":
        """With these scores; they replace what the same person said of the same items."""
        before = self.reviewers.get(reviewer)
        new: dict[str, Outcome] = {name: one.outcome for name, one in scored.items()}
        review = Review(
            scores={**(before.scores if before else {}), **new},
            keys=tuple(dict.fromkeys([*(before.keys if before else ()), digest_model(key)])),
            at=datetime.now(UTC),
        )
        return self.model_copy(update={"reviewers": {**self.reviewers, reviewer: review}})

    @property
    def measures(self) -> Measures:
        """Of each conversation the mean over its reviewers, from -1 to 1."""
        points: dict[str, list[float]] = {}
        for review in self.reviewers.values():
            for conversation, outcome in review.scores.items():
                points.setdefault(conversation, []).append(POINTS[outcome])
        return tuple(
            Measure(id=conversation, total=sum(given) / len(given))
            for conversation, given in sorted(points.items())
        )


# -- the sheet -----------------------------------------------------------------------


def compared(evaluation: Evaluation) -> dict[str, tuple[Sample, Sample]]:
    """{conversation: (challenger's answer, bar's answer)} where the two differ."""
    _, bar = evaluation.bar
    theirs = {sample.id: sample for sample in bar.samples}
    return {
        mine.id: (mine, theirs[mine.id])
        for mine in evaluation.challenger.samples
        if mine.id in theirs and mine.answer.strip() != theirs[mine.id].answer.strip()
    }


def digest_of(answers: Mapping[str, tuple[Sample, Sample]]) -> str:
    return digest_json(
        {name: [mine.answer, other.answer] for name, (mine, other) in answers.items()}
    )


def draw(
    evaluation: Evaluation, version: Version, count: int, seed: bytes
) -> tuple[list[Item], Key]:
    """A sheet of at most `count` conversations, and its key.

    Args:
        seed: of the choice, the order and the sides; from `os.urandom`.

    Raises:
        RegistryError: there are no two answers that differ.
    """
    answers = compared(evaluation)
    if not answers:
        raise RegistryError(
            f"version {version.version} and its bar have no two answers that differ",
            "retrain with a larger evaluate.answers",
        )
    chance = random.Random(seed)
    sheet = f"s{digest_bytes(seed)[:6]}"
    items: list[Item] = []
    places: dict[str, Place] = {}
    for number, conversation in enumerate(
        chance.sample(sorted(answers), min(count, len(answers))), start=1
    ):
        mine, other = answers[conversation]
        side: Side = chance.choice(get_args(Side))
        first, second = (mine, other) if side == "A" else (other, mine)
        name = f"{sheet}-{number:02}"
        items.append(Item(name=name, prompt=mine.asked, a=first.answer, b=second.answer))
        places[name] = Place(conversation=conversation, challenger=side)
    key = Key(
        sheet=sheet,
        model=version.name,
        version=version.version,
        bar=evaluation.bar[0],
        answers=digest_of(answers),
        seed=seed.hex(),
        items=places,
    )
    return items, key


def write(items: Sequence[Item], key: Key, folder: Path) -> None:
    """Make a folder of the page, the table and the key.

    Raises:
        ConfigError: it cannot be written, or is not empty.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty", "name another folder with --out")
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = partial_folder(folder.parent)
        (made / PAGE).write_text(page(items, key.sheet), encoding="utf-8")
        # Spreadsheets know UTF-8 by its mark.
        (made / TABLE).write_text(table(items), encoding="utf-8-sig", newline="")
        (made / KEY).write_text(key.model_dump_json(indent=2) + "\n", encoding="utf-8")
        publish(made, folder)
    except OSError as error:
        raise ConfigError(
            f"cannot write {folder} ({error.strerror})", "name another folder with --out"
        ) from error


def page(items: Sequence[Item], sheet: str) -> str:
    """One self-contained HTML page that is worked with in a browser, without any server."""
    template = resources.files("tasks").joinpath(TEMPLATE).read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template).render(items=items, sheet=sheet)


def table(items: Sequence[Item]) -> str:
    """The same as CSV, with room for scores and comments."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for item in items:
        rows.writerow([item.name, *map(_cell, (item.prompt, item.a, item.b)), "", ""])
    return text.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


# -- the scores ----------------------------------------------------------------------


def read_key(file: Path, version: Version, evaluation: Evaluation) -> Key:
    """The key of a sheet of this version.

    Raises:
        ConfigError: it is no key, or that of another version or of other answers.
    """
    try:
        key = Key.model_validate_json(_text(file))
    except ValidationError as error:
        raise ConfigError(
            f"{file} is no key of a sheet", "give the key.json that was written with it"
        ) from error
    if (key.model, key.version) != (version.name, version.version):
        raise ConfigError(
            f"{file} is the key of a sheet of {key.model} {key.version},"
            f" not of {version.name} {version.version}",
            f"run `evergreen review {key.version}`, or give the key of the other sheet",
        )
    if key.answers != digest_of(compared(evaluation)):
        raise ConfigError(
            f"version {version.version} was evaluated anew since the sheet of {file} was made",
            f"make another sheet: `evergreen review {version.version}`",
        )
    return key


def read_scores(file: Path, key: Key) -> dict[str, Scored]:
    """{conversation: what was said of it} of a CSV; rows without a score are passed over.

    Raises:
        ConfigError: naming the row that cannot be read.
    """
    scored: dict[str, Scored] = {}
    for number, row in enumerate(_rows(file), start=2):
        item, score = row["item"].strip(), row["score"].strip()
        if not score:
            continue
        where = f"row {number} of {file}"
        place = _place(item, where, key)
        if place.conversation in scored:
            raise ConfigError(f"{where}: item {item!r} has a score already", "keep one of the two")
        if (known := SCORES.get(score.casefold())) is None:
            raise ConfigError(
                f"{where}: {score!r} is no score", f"write one of {', '.join(SCORES.values())}"
            )
        scored[place.conversation] = Scored(
            outcome=unblinded(known, place.challenger), comment=(row.get("comment") or "").strip()
        )
    if not scored:
        raise ConfigError(f"{file} has no scores", "write A, B, tie or bad into its column score")
    return scored


def unblinded(score: Score, challenger: Side) -> Outcome:
    if score == "tie" or score == "bad":
        return score
    return "challenger" if score == challenger else "bar"


def _place(item: str, where: str, key: Key) -> Place:
    if item in key.items:
        return key.items[item]
    sheet, _, _ = item.partition("-")
    if sheet != key.sheet:
        raise ConfigError(
            f"{where}: item {item!r} is not of sheet {key.sheet}, which the key is for",
            "give the key.json that was written with the sheet that was scored",
        )
    first, *_, last = [*key.items, *key.items]
    raise ConfigError(
        f"{where}: there is no item {item!r} on the sheet", f"its items are {first} to {last}"
    )


def _rows(file: Path) -> list[dict[str, str]]:
    text = _text(file)
    head = text.partition("\n")[0]
    # Some spreadsheets write other separators.
    rows = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), restval=""
    )
    try:
        names = [str(name).strip().casefold() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        found = list(rows)
    except csv.Error as error:
        raise ConfigError(f"{file} is not CSV ({error})", "save it as CSV in UTF-8") from error
    if missing := [name for name in ("item", "score") if name not in names]:
        raise ConfigError(
            f"{file} has no column {' and no column '.join(missing)}",
            "its first row must name the columns item and score",
        )
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {file} ({error.strerror})", "check its name") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8", "save it as CSV in UTF-8") from error


# -- MLflow --------------------------------------------------------------------------


def reviews_of(kept: Documents, evaluation: Evaluation) -> Reviews:
    """What was said of these very answers so far; what was said of others no longer counts.

    Args:
        kept: the version's documents.
        evaluation: theirs, with the answers.

    Raises:
        RegistryError: what was said cannot be read.
    """
    empty = Reviews(bar=evaluation.bar[0], answers=digest_of(compared(evaluation)))
    reviews = kept.parsed(REVIEW, Reviews) if REVIEW in kept.texts else empty
    return reviews if reviews.answers == empty.answers else empty


def record(client: Any, version: Version, reviews: Reviews, verdict: Verdict) -> None:
    """Put the reviews and the verdict after them into the version's run."""
    log_results(
        client,
        version.run_id,
        metrics={"reviewed": mean(reviews.measures)},
        tags={"evergreen.decision": verdict.decision},
        documents={
            REVIEW: reviews.model_dump(mode="json"),
            VERDICT: verdict.model_dump(mode="json"),
        },
    )
