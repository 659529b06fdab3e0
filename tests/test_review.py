"""People score a sheet that does not tell whose answers they are, against a real MLflow."""

import csv
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from typer.testing import CliRunner

from data_contracts.errors import ConfigError, EvergreenError, RegistryError
from data_contracts.workspace import Workspace
from flows.cli import app
from tasks.decide import DecideSettings, decide
from tasks.evaluate.measures import Evaluation, ModelScore, Sample
from tasks.evaluate.samples import SAMPLES, save_samples, without_samples
from tasks.registry import Version, find
from tasks.review import (
    Item,
    Key,
    Outcome,
    compared,
    draw,
    page,
    read_key,
    read_scores,
    table,
    unblinded,
)
from tasks.tracking import log_results
from tests.commands import assert_one_line_error, evergreen
from tests.registries import Registry
from tests.scores import evaluation, scored

if TYPE_CHECKING:
    from playwright.sync_api import Page

numbers = count()
CONVERSATIONS = 12
SEED = bytes(16)
_draw = random.Random(3)


def answered(score: ModelScore, says: str, upto: int = CONVERSATIONS) -> ModelScore:
    samples = tuple(
        Sample(
            id=f"chat-{number}", prompt=f"How is day {number}?", given="", answer=f"{says} {number}"
        )
        for number in range(upto)
    )
    return score.model_copy(update={"samples": samples})


def judged(ours: str = "=SUM(cold)", theirs: str = "<b>warm</b>") -> Evaluation:
    losses = [3.5 + _draw.gauss(0, 0.1) for _ in range(30)]
    return evaluation(
        answered(scored(losses), ours), base=answered(scored([4.0] * len(losses)), theirs)
    )


VERSION = Version(
    name="evergreen", version="3", aliases=(), adapter_digest="", holdout_loss=None, decision="",
    reason="", request="", run_id="", created_at=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """MLflow takes seconds to make its database: once."""
    made = Workspace(home=tmp_path_factory.mktemp("registry") / "home")
    made.create()
    return made


@pytest.fixture
def champion(home: Workspace, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A model whose version 1 is champion, with the evaluation that made it so."""
    models = Registry(home, f"model-{next(numbers)}")
    models.promote("first", "promote", None)
    log(models, judged())
    monkeypatch.setenv("EVERGREEN_HOME", str(home.home))
    monkeypatch.setenv("EVERGREEN_NAME", models.name)
    return models


def log(models: Registry, found: Evaluation) -> None:
    documents = {
        "evaluation.json": without_samples(found).model_dump(mode="json"),
        "verdict.json": decide(found, DecideSettings()).model_dump(mode="json"),
    }
    log_results(models.client, models.run_id, documents=documents)
    save_samples(found, models.run_id, models.workspace)


def logged(models: Registry, name: str) -> Any:
    return mlflow.artifacts.load_dict(f"runs:/{models.run_id}/{name}")


def review(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["review", *map(str, arguments)], env={"COLUMNS": "200"})
    if done.exception is not None:
        raise done.exception
    return done.stdout


def score_all(folder: Path, outcome: Outcome, *, upto: int = CONVERSATIONS) -> Path:
    """The sheet's table as somebody fills it who always says the same of the two models."""
    key = Key.model_validate_json((folder / "key.json").read_text())
    with (folder / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:upto]:
        ours = key.items[row["item"]].challenger
        theirs = "B" if ours == "A" else "A"
        row["score"] = {"challenger": ours, "bar": theirs}.get(outcome, outcome)
    file = folder / f"{outcome}.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


# -- the sheet -----------------------------------------------------------------------


def test_a_sheet_does_not_tell_whose_answers_they_are() -> None:
    items, key = draw(judged("cold", "warm"), VERSION, 20, os.urandom(16))
    assert len(items) == CONVERSATIONS
    for text in (page(items, key.sheet), table(items), *(item.model_dump_json() for item in items)):
        assert not re.search(r"challenger|champion|\bbase\b|chat-\d|evergreen 3", text, re.I)
    assert "challenger" in key.model_dump_json()


def test_sides_and_order_are_drawn() -> None:
    found = judged("cold", "warm")
    sheets = [draw(found, VERSION, 20, os.urandom(16)) for _ in range(50)]
    first = [item.a.startswith("cold") for items, _ in sheets for item in items]
    assert 0.4 < sum(first) / len(first) < 0.6
    orders = {tuple(item.prompt for item in items) for items, _ in sheets}
    assert len(orders) == len(sheets)
    for items, key in sheets:
        for item in items:
            place = key.items[item.name]
            assert (item.a if place.challenger == "A" else item.b).startswith("cold")
            assert item.prompt.removeprefix("How is day ").removesuffix("?") == (
                place.conversation.removeprefix("chat-")
            )


def test_the_key_gives_the_same_sheet_again() -> None:
    found = judged()
    items, key = draw(found, VERSION, 5, os.urandom(16))
    assert draw(found, VERSION, 5, bytes.fromhex(key.seed)) == (items, key)


def test_only_answers_that_differ_are_compared() -> None:
    losses = [3.0] * 30
    ours, theirs = answered(scored(losses), "same"), answered(scored(losses), "same", upto=8)
    other = theirs.samples[0].model_copy(update={"answer": "another"})
    theirs = theirs.model_copy(update={"samples": (other, *theirs.samples[1:])})
    assert list(compared(evaluation(ours, base=theirs))) == ["chat-0"]
    with pytest.raises(RegistryError, match="no two answers that differ"):
        draw(evaluation(ours, base=ours), VERSION, 20, SEED)


def test_what_a_model_says_is_only_text() -> None:
    items, key = draw(judged("=SUM(cold)", "<script>warm"), VERSION, 20, SEED)
    assert "<script>warm" not in page(items, key.sheet)
    for row in csv.DictReader(table(items).splitlines()):
        assert {row["answer_a"][:6], row["answer_b"][:6]} == {"'=SUM(", "<scrip"}


# -- the scores ----------------------------------------------------------------------


@pytest.fixture
def sheet(tmp_path: Path) -> tuple[list[Item], Key, Path]:
    items, key = draw(judged(), VERSION, 20, SEED)
    return items, key, tmp_path / "scores.csv"


def test_scores_are_read_whatever_wrote_them(sheet: tuple[list[Item], Key, Path]) -> None:
    items, key, file = sheet
    names = [item.name for item in items]
    file.write_text(
        "\ufeffComment;Item;Score\r\n"
        f'"two\r\nlines";{names[0]};a\r\n;{names[1]};\r\n;{names[2]};TIE\r\n;{names[3]};bad',
        newline="",
    )
    found = read_scores(file, key)
    places = [key.items[name] for name in names]
    assert list(found) == [places[at].conversation for at in (0, 2, 3)]
    first = found[places[0].conversation]
    assert first.outcome == ("challenger" if places[0].challenger == "A" else "bar")
    assert first.comment == "two\nlines"
    assert unblinded("B", "B") == "challenger"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("item,comment\n{0},fine\n", ["no column score"]),
        ("", ["no column item and no column score"]),
        ("item,score\n{0},\n", ["no scores"]),
        ("item,score\n{0},A\n{1},C\n", ["row 3", "'C' is no score", "A, B, tie, bad"]),
        ("item,score\n{0},A\n{0},B\n", ["row 3", "has a score already"]),
        ("item,score\n{0}9,A\n", ["row 2", "there is no item", "its items are"]),
        ("item,score\nsffffff-01,A\n", ["row 2", "is not of sheet"]),
        ("item,score\n{0}\xe9,A\n", ["not UTF-8"]),
    ],
)
def test_scores_that_cannot_be_read_name_row_and_fix(
    sheet: tuple[list[Item], Key, Path], content: str, parts: list[str]
) -> None:
    items, key, file = sheet
    file.write_bytes(content.format(*(item.name for item in items)).encode("latin-1"))
    with pytest.raises(ConfigError) as raised:
        read_scores(file, key)
    assert all(part in str(raised.value) for part in parts), raised.value
    assert "\n" not in str(raised.value)


def test_a_key_of_something_else_is_refused(sheet: tuple[list[Item], Key, Path]) -> None:
    _, key, file = sheet
    with pytest.raises(ConfigError, match="cannot read"):
        read_key(file, VERSION, judged())
    file.write_text("{}")
    with pytest.raises(ConfigError, match="is no key of a sheet"):
        read_key(file, VERSION, judged())
    file.write_text(key.model_dump_json())
    assert read_key(file, VERSION, judged()) == key
    with pytest.raises(ConfigError, match=r"sheet of evergreen 3, not of evergreen 4"):
        read_key(file, VERSION.model_copy(update={"version": "4"}), judged())
    with pytest.raises(ConfigError, match="was evaluated anew"):
        read_key(file, VERSION, judged("other answers"))


# -- the command ---------------------------------------------------------------------


def test_reviewers_confirm_a_champion(champion: Registry, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet"
    said = review("champion", "--out", sheet)
    assert f"{CONVERSATIONS} conversations" in said
    assert "and not key.json" in said
    assert sorted(file.name for file in sheet.iterdir()) == [
        "key.json",
        "review.csv",
        "review.html",
    ]
    scores = score_all(sheet, "challenger")
    said = review("1", "--scores", scores, "--key", sheet / "key.json", "--reviewer", "ann")
    assert "Passed: reviewers: reviewed" in said
    assert "promote: better:" in said
    assert "rollback" not in said
    (gate,) = [
        one for one in logged(champion, "verdict.json")["gates"] if one["name"] == "reviewers"
    ]
    assert (gate["status"], gate["value"], gate["items"]) == ("passed", 1.0, CONVERSATIONS)
    found = logged(champion, "review.json")
    assert found["reviewers"]["ann"]["counts"] == {"challenger": 12, "bar": 0, "tie": 0, "bad": 0}
    assert "cold" not in json.dumps(found)
    assert champion.client.get_run(champion.run_id).data.metrics["reviewed"] == 1.0


def test_reviewers_are_averaged_and_kept(champion: Registry, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet"
    review("champion", "--out", sheet)

    def scores(outcome: Outcome, reviewer: str, **some: int) -> Any:
        file = score_all(sheet, outcome, **some)
        options = ("--scores", file, "--key", sheet / "key.json", "--reviewer", reviewer)
        return json.loads(review("champion", *options, "--json"))

    assert scores("challenger", "ann")["preference"] == 1.0
    both = scores("tie", "ben")
    assert (both["preference"], both["items"], both["decision"]) == (0.5, 12, "promote")
    assert list(both["reviewers"]) == ["ann", "ben"]
    # Somebody who looks again says what counts, of the items looked at.
    again = scores("bar", "ann", upto=6)
    assert again["reviewers"]["ann"] == {"challenger": 6, "bar": 6, "tie": 0, "bad": 0}
    assert again["preference"] == 0.0


def test_reviewers_find_a_champion_worse(champion: Registry, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet"
    review("champion", "--out", sheet)
    options = ("--scores", score_all(sheet, "bar"), "--key", sheet / "key.json")
    said = review("champion", *options)
    assert "Failed: reviewers: reviewed" in said
    assert "keep: reviewers" in said
    assert "`evergreen models rollback` takes it back" in said
    assert logged(champion, "verdict.json")["decision"] == "keep"
    # Nothing is taken back by itself.
    assert "champion" in find(champion.client, champion.name, "1").aliases


def test_reviews_of_other_answers_do_not_count(champion: Registry, tmp_path: Path) -> None:
    for number, says in enumerate(("cold", "windy")):
        log(champion, judged(says))
        sheet = tmp_path / str(number)
        review("1", "--out", sheet)
        scores = score_all(sheet, "tie")
        options = ("--scores", scores, "--key", sheet / "key.json", "--reviewer", says, "--json")
        found = json.loads(review("1", *options))
    assert list(found["reviewers"]) == ["windy"]


def test_answers_are_in_the_home_alone_and_for_a_time(champion: Registry, tmp_path: Path) -> None:
    assert "warm" not in json.dumps(logged(champion, "evaluation.json"))
    file = champion.workspace.runs / champion.run_id / SAMPLES
    kept = file.read_text("utf-8")
    file.unlink()
    with pytest.raises(RegistryError, match="are not in .*watch.retention_days"):
        review("champion", "--out", tmp_path / "none")
    file.write_text("{", "utf-8")
    with pytest.raises(RegistryError, match="are not in"):
        review("champion", "--out", tmp_path / "none")
    file.write_text(kept, "utf-8")
    review("champion", "--out", tmp_path / "sheet")


def test_answers_that_an_earlier_evergreen_gave_to_mlflow_are_read(
    champion: Registry, tmp_path: Path
) -> None:
    old = {"evaluation.json": judged("windy").model_dump(mode="json")}
    log_results(champion.client, champion.run_id, documents=old)
    review("champion", "--out", tmp_path / "sheet")
    assert "windy" in (tmp_path / "sheet" / "review.html").read_text("utf-8")


def test_a_sheet_never_takes_the_place_of_another(champion: Registry, home: Workspace) -> None:
    folder = Path(json.loads(review("1", "--json"))["page"]).parent
    assert folder.is_relative_to(home.home / "reviews")
    with pytest.raises(ConfigError, match="is not empty"):
        review("1", "--out", folder)
    with pytest.raises(EvergreenError, match="go together"):
        review("1", "--key", folder / "key.json")


def test_a_version_that_cannot_be_reviewed(champion: Registry) -> None:
    experiment = champion.client.get_experiment_by_name("evergreen").experiment_id
    champion.run_id = champion.client.create_run(experiment).info.run_id
    champion.promote("second", "promote", "1")
    done = evergreen("review", "2", home=champion.workspace.home)
    assert_one_line_error(done, "version 2 of", "before Evergreen kept evaluation.json")


# -- the page ------------------------------------------------------------------------


@pytest.fixture
def browser_page(tmp_path: Path) -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1200, "height": 900})
        browser.close()


def test_the_page_is_worked_with_by_keyboard_and_mouse(
    browser_page: "Page", tmp_path: Path
) -> None:
    items, key = draw(judged(), VERSION, 5, SEED)
    file = tmp_path / "review.html"
    file.write_text(page(items, key.sheet), encoding="utf-8")
    problems: list[str] = []
    asked: list[str] = []
    browser_page.on("console", lambda message: problems.append(message.text))
    browser_page.on("pageerror", lambda error: problems.append(str(error)))
    browser_page.on("request", lambda request: asked.append(request.url))
    browser_page.goto(file.as_uri())
    for pressed in ("a", "B", "t", "k", "k", "x"):
        browser_page.keyboard.press(pressed)
    assert browser_page.locator("#count").text_content() == "3 of 5"
    browser_page.keyboard.press("c")
    browser_page.keyboard.type('a bad "b", yes')
    browser_page.keyboard.press("Escape")
    browser_page.reload()
    assert browser_page.locator("#count").text_content() == "3 of 5"
    last = browser_page.locator("article").last
    last.get_by_text("B is better").click()
    with browser_page.expect_download() as download:
        browser_page.locator("#download").click()
    scores = tmp_path / "scores.csv"
    assert download.value.suggested_filename == "scores.csv"
    download.value.save_as(scores)
    rows = list(csv.DictReader(scores.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["score"] for row in rows] == ["A", "bad", "tie", "", "B"]
    assert [row["comment"] for row in rows if row["comment"]] == ['a bad "b", yes']
    assert len(read_scores(scores, key)) == 4
    assert not problems
    assert {url for url in asked if not url.startswith("blob:")} == {file.as_uri()}
