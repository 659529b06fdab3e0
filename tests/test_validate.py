"""`evergreen validate` and `scrub` tell what was recognised, left out, and what is learnt."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.contract import load_contract
from data_contracts.formats import parse_record
from data_contracts.policy import load_policy
from data_contracts.records import Message, Record, ToolCall
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from flows.cli import run as run_command
from tasks.evaluate.stage import first_exchange
from tasks.split import SplitSettings, split
from tasks.validate import check
from tests.tiny import conversations, write_jsonl

CASES = Path(__file__).parent / "data" / "field_cases"


@pytest.fixture
def settings(tmp_path: Path, tiny_model: Path) -> Path:
    """The tiny model, and a scrub without a detector."""
    policy = tmp_path / "policy.yaml"
    without = load_policy().model_copy(update={"detector": False})
    policy.write_text(yaml.safe_dump(without.model_dump(mode="json")), encoding="utf-8")
    file = tmp_path / "evergreen.yaml"
    tree = {
        "model": {"base": str(tiny_model), "dtype": "float32"},
        "scrub": {"policy": str(policy)},
        "split": {"min_rating": 3},
    }
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return file


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> "subprocess.CompletedProcess[str]":
    given = [str(argument) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["evergreen", *given])
    code = run_command()
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess(given, code, out, err)


def test_validate_tells_the_format_and_what_is_left_out(
    tmp_path: Path,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: list[Any] = [
        {"prompt": "a b c", "response": "d", "topic": "x"},
        {"prompt": "b", "response": "e", "rating": 1},
        {"prompt": "c", "response": "f", "label": False, "created_at": "soon"},
        {"prompt": [{"role": "user", "content": "g"}], "chosen": "h", "rejected": "i"},
        {"prompt": "j", "response": "k", "images": ["1.jpg"]},
        {"prompt": "l", "response": ""},
    ]
    file = write_jsonl(tmp_path / "chats.jsonl", rows)
    done = run(monkeypatch, capsys, "validate", file, "--config", settings, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["unreadable"] == {"row: images cannot be represented": 1}
    assert found["broken"] == 1
    assert found["set_aside"] == {
        "nothing to learn: rated below 3": 1,
        "nothing to learn: labelled undesirable": 1,
    }
    assert found["readings"] == {
        "formats": {"prompt/response": 3, "prompt/response, labelled": 1, "preference pair": 1},
        "unread": {"topic": 1},
        "unknown": {"created_at": 1},
        "unlearnt": {"label: false": 1},
        "labels": {"rating: 1": 1, "label: false": 1, "rejected sides": 1},
    }
    done = run(monkeypatch, capsys, "validate", file, "--config", settings)
    told = " ".join(done.stdout.split())
    for part in ("Formats", "Fields that nothing reads", "topic", "rejected sides", "Not learnt"):
        assert part in told


def test_show_renders_scrubbed_conversations_as_they_will_be_learnt(
    tmp_path: Path,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = conversations(3)
    rows[0]["messages"][0]["content"] = "mail planted@example.org how it is in oslo"
    file = write_jsonl(tmp_path / "chats.jsonl", rows)
    options = ("--config", settings, "--show", "2")
    done = run(monkeypatch, capsys, "validate", file, *options, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["shown"]
    assert len(shown) == 2
    for one, row in zip(shown, rows, strict=False):
        (lesson,) = one["lessons"]
        learnt = "".join(part["text"] for part in lesson["segments"] if part["learnt"])
        assert learnt == row["messages"][1]["content"] + "<|end|>"
        assert 0 < lesson["learnt_tokens"] < lesson["tokens"]
    assert "planted" not in done.stdout
    assert "<EMAIL_ADDRESS_1>" in shown[0]["lessons"][0]["segments"][0]["text"]
    done = run(monkeypatch, capsys, "validate", file, *options)
    assert "tokens learnt" in done.stdout
    assert "planted" not in done.stdout


def test_show_says_so_where_there_is_nothing_to_show(
    tmp_path: Path,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"prompt": "a", "response": "b", "label": False}]
    file = write_jsonl(tmp_path / "chats.jsonl", rows)
    done = run(monkeypatch, capsys, "validate", file, "--config", settings, "--show", "1")
    assert done.returncode == 1
    assert "there is no conversation to show" in done.stderr


def test_a_scrubbed_file_is_in_openai_s_format_and_reads_as_it_was(
    tmp_path: Path,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("01-tool-calls/tools", "07-negative-labels/kto", "07-negative-labels/dpo"):
        output = tmp_path / "clean.jsonl"
        source = CASES / f"{name}.jsonl"
        done = run(monkeypatch, capsys, "scrub", source, output, "--config", settings, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["readings"]["formats"]
        lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        assert None not in [value for line in lines for value in line.values()]
        for before, line in zip(source.read_text("utf-8").splitlines(), lines, strict=True):
            record = parse_record(json.loads(before), source="s", position=0)
            again = parse_record(line, source="s", position=0)
            assert again.messages == record.messages
            assert (again.tools, again.rejected) == (record.tools, record.rejected)
            assert again.desirable is record.desirable


# -- the contract and the split --------------------------------------------------------------


def record(*messages: Message, **more: Any) -> Record:
    return Record(id="r", source="s", messages=messages, **more)


ASKED = Message(role="user", content="Is it warm?")
CALL = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}"),))


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ((ASKED, CALL, Message(role="tool", content="")), None),
        ((ASKED, Message(role="assistant", refusal="No.")), None),
        ((ASKED, Message(role="assistant", content="")), "messages.content: length"),
        ((ASKED, Message(role="assistant", reasoning="r")), "messages.content: length"),
        ((Message(role="user", content=""), CALL), "messages.content: length"),
        (
            (ASKED, Message(role="assistant", content="a", reasoning="r" * 100_001)),
            "messages.reasoning: length",
        ),
        (
            (ASKED, Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{"),))),
            "tool_calls.arguments: not_json",
        ),
        (
            (ASKED, Message(role="assistant", tool_calls=(ToolCall(name="", arguments="{}"),))),
            "tool_calls.name: length",
        ),
    ],
)
def test_what_a_turn_must_say(messages: tuple[Message, ...], rule: str | None) -> None:
    checked = check([record(*messages)], load_contract())
    assert [broken.startswith(str(rule)) for broken in checked.broken.values()] == (
        [] if rule is None else [True]
    )


def test_what_teaches_nothing_is_set_aside_with_the_reason(workspace: Workspace) -> None:
    rows = [parse_record(row, source="s", position=0) for row in conversations(40)]
    bad = [
        one.model_copy(update={"id": f"bad-{n}", "desirable": False})
        for n, one in enumerate(rows[:3])
    ]
    unlearnt = rows[5].messages[1].model_copy(update={"learnt": False})
    bad.append(rows[5].model_copy(update={"id": "w", "messages": (rows[5].messages[0], unlearnt)}))
    bad.append(rows[6].model_copy(update={"id": "rated", "rating": 2.0}))
    whole = write_records(
        str(workspace.snapshots), "validate", [*rows, *bad], parent=None, provenance={}
    )
    parts = split(whole, SplitSettings(min_rating=3), workspace)
    assert parts.set_aside == {
        "nothing to learn: labelled undesirable": 3,
        "nothing to learn: no answer is to be learnt": 1,
        "nothing to learn: rated below 3": 1,
    }
    kept = parts.train.account.rows_out + parts.holdout.account.rows_out
    assert (kept, parts.train.account.quarantined) == (40, 5)
    assert {row.id for row in parts.train.quarantined()} == {one.id for one in bad}
    plain = write_records(str(workspace.snapshots), "validate", rows, parent=None, provenance={})
    same = split(plain, SplitSettings(), workspace)
    assert [r.id for r in same.holdout.records()] == [r.id for r in parts.holdout.records()]


def test_a_model_is_measured_by_answers_that_are_to_be_learnt() -> None:
    bad = Message(role="assistant", content="Nonsense.", learnt=False)
    prompt, given = first_exchange((ASKED, bad, ASKED, CALL)) or ((), "")
    assert prompt == (ASKED, bad, ASKED)
    assert given == "f({})"  # a call is an answer
    assert first_exchange((ASKED, bad)) is None
