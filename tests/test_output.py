"""Nothing that commands print steers the terminal, whoever's text it is."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.printable import one_line, printable
from data_contracts.workspace import Workspace
from flows import cli
from flows.cli import output
from infra.local import Service
from tasks.services import PREFECT
from tests.commands import environment, tiny_settings
from tests.tiny import conversations, write_jsonl

# Escape sequences in both forms, a bell, a backspace, a carriage return, text turned around, hidden
# characters, half of a surrogate pair, and what rich reads as colour, link and emoji.
HOSTILE = (
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J\x9d0;t\x9c\x08\r\x7f\u202eover\u202c\u2066in\u2069"
    "\u200bwide\ufeff\u2028\U000e0041\udcff [bold]fat[red] [link=https://evil.example]here :boom:"
)
WRITABLE = HOSTILE.replace("\udcff", "")
LITERAL = "[bold]fat[red] [link=https://evil.example]here :boom:"


def assert_plain(text: str) -> None:
    steering = [
        sign
        for sign in text
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") and sign not in "\n\t"
    ]
    assert steering == []


@given(st.text(st.characters(codec=None)))
def test_nothing_that_steers_is_left_and_nothing_else_goes(text: str) -> None:
    shown = printable(text)
    assert_plain(shown)
    assert printable(shown) == shown
    kept = [c for c in text if c in "\n\t" or unicodedata.category(c)[0] not in ("C", "Z")]
    if "\x1b" not in text and "\x9b" not in text:
        assert [c for c in shown if c in kept] == [c for c in text if c in kept]
    assert "\n" not in one_line(text)


def test_colours_of_logs_go_as_a_whole() -> None:
    assert printable("\x1b[1;32mINFO\x1b[0m:  started") == "INFO:  started"
    assert printable("naïve café, 東京, किताब\n\tyes") == "naïve café, 東京, किताब\n\tyes"


class Command:
    """`evergreen` in this process, and what it printed."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.home, self._monkeypatch, self._capsys = home, monkeypatch, capsys
        monkeypatch.setenv("EVERGREEN_HOME", str(home))
        monkeypatch.setenv("COLUMNS", "1000")
        monkeypatch.setattr(output.console, "width", 1000)  # made before, perhaps

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        """(the exit code, all that was printed, which is plain)."""
        self._monkeypatch.setattr(sys, "argv", ["evergreen", *map(str, arguments)])
        code = cli.run()
        out, error = self._capsys.readouterr()
        assert_plain(out + error)
        return code, out + error


@pytest.fixture
def command(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(workspace.home, monkeypatch, capsys)


def test_names_of_files_and_arguments(command: Command, tmp_path: Path) -> None:
    name = WRITABLE.replace("/", "")
    folder = tmp_path / name
    folder.mkdir()
    rows = write_jsonl(folder / f"{name}.jsonl", [*conversations(3), {"text": "x"}])
    empty = folder / f"{name}.parquet"
    empty.write_bytes(b"none")
    policy = Path(__file__).parent / "patterns.yaml"
    plain = write_jsonl(tmp_path / "chats.jsonl", conversations(3))
    scrub = ("scrub", plain, folder / "clean.jsonl", "--policy", policy)
    failing: list[tuple[str | Path, ...]] = [
        ("validate", tmp_path / f"missing {name}"),
        ("validate", empty),
        ("scrub", rows, folder / name / "none.jsonl"),
        ("scrub", rows, folder / f"out.{name}"),
        ("scrub", rows, folder / "x.jsonl", "--policy", folder / "no"),
        ("validate", rows, "--contract", folder / "no"),
        ("drift", "--reference", rows, "--current", rows),
        ("drift", "--reference", rows, "--current", rows, "--config", folder / "no"),
        (name,),
        ("models", name),
        ("models", "show", name),
        ("ask", "hello", "--model", name),
        ("ledger", name),
        ("config", "--config", folder / "no.yaml"),
        ("plan", "--config", folder / "no"),
        ("export", name, folder / "export"),
        ("review", name),
        ("regression", "add", folder / "no"),
        ("regression", "add", "--prompt", name),
        ("watch", "--config", folder / "no"),
        ("retrain", "--data", folder / "no"),
        ("up", "--config", folder / "no"),
    ]
    for arguments in failing:
        code, said = command(*arguments)
        assert code != 0, arguments
        assert said.count("error: ") == 1, said
    code, said = command(*scrub)
    assert code == 0, said
    assert "[bold]fat" in said
    code, said = command(*scrub, "--json")
    assert (code, said.isascii()) == (0, True)
    assert "fat" in json.loads(said)["output"]


def test_a_name_that_is_no_text_is_refused(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(tmp_path / "b.jsonl", conversations(2)).rename(folder / "b\udcff.jsonl")
    for arguments in (("validate", folder), ("validate", folder / "b\udcff.jsonl")):
        code, said = command(*arguments)
        assert code != 0
        assert said.count("error: ") == 1
        assert "is not UTF-8" in said


def test_what_people_wrote_into_ledger_and_registry(
    command: Command, workspace: Workspace, tmp_path: Path
) -> None:
    from tasks.ledger import requests
    from tasks.registry import REASON_TAG
    from tests.registries import Registry

    registered = Registry(workspace)
    registered.promote("first", "promote", None)
    text = WRITABLE
    registered.client.set_model_version_tag("evergreen", "1", REASON_TAG, text)
    registered.client.set_tag(registered.run_id, "prefect.flow_run_name", text)
    with registered.ledger.transaction("evergreen") as connection:
        request, _ = requests.ask(
            connection, model="evergreen", champion="1", episode="e", trigger="drift",
            reason=text, evidence={"report": text},
        )  # fmt: skip
    for arguments in (
        ("models", "list"),
        ("status",),
        ("ledger",),
        ("ledger", request.id),
        ("models", "history"),
        ("models", "why", "champion"),
    ):
        code, said = command(*arguments)
        if arguments[-1] not in ("history", "champion"):
            assert code == 0, said
            assert LITERAL in said, said
        code, said = command(*arguments, "--json")
        assert said.isascii()


def test_an_answer_of_a_model(command: Command, tiny_model: Path, tmp_path: Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders

    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    file = model / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    text = WRITABLE
    answer = decoders.Replace(Regex(r"\A(?m:.+)\z"), text)
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), answer])
    tokenizer.save(str(file))
    settings = tiny_settings(tmp_path, model)
    code, said = command("ask", "hello", "--model", "base", "--config", settings)
    assert code == 0, said
    assert LITERAL in " ".join(said.split())


def test_lines_of_logs_that_up_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_contracts.errors import StackError
    from flows.cli.stack import _follow

    monkeypatch.setenv("COLUMNS", "1000")
    log = tmp_path / "server.log"
    log.write_text("")
    line = HOSTILE.encode("utf-8", "replace")
    script = f"import sys; sys.stdout.buffer.write({line!r})"
    service = Service(PREFECT, "http://none", [sys.executable, "-c", script], {}, log)
    service.start()
    with pytest.raises(StackError):
        _follow([service], None)
    said = capsys.readouterr().out
    assert_plain(said)
    assert LITERAL in said


def test_messages_of_loggers_and_their_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    import tasks.stage  # noqa: F401 - it sets them up

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        log = logging.getLogger(name)
        handler = logging.StreamHandler()
        log.addHandler(handler)
        try:
            log.warning("%s is damaged: %d", HOSTILE, 7)
            try:
                raise OSError(2, "gone", HOSTILE)
            except OSError:
                log.exception("failed")
        finally:
            log.removeHandler(handler)
    said = capsys.readouterr().err
    assert_plain(said)
    assert said.count("is damaged: 7") >= 2
    assert said.count("FileNotFoundError") >= 2


TERMINAL = """
import sys, warnings
from flows.cli.output import bold, console, make_errors_printable, show_table
make_errors_printable()
text = sys.argv[1]
console.print(bold("Champion:"), text)
show_table(text, [{"a": text, "b": 1}])
warnings.warn(text)
raise OSError(text)
"""


def test_on_a_terminal_only_what_is_meant_is_bold(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINAL, os.fsencode(WRITABLE)],
        env=environment(tmp_path, FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="400"),
        capture_output=True,
        check=False,
    )
    out, error = done.stdout.decode(), done.stderr.decode()
    assert "\x1b[1mChampion:\x1b[0m" in out
    own: Any = out
    for sequence in ("\x1b[1m", "\x1b[0m"):
        own = own.replace(sequence, "")
    assert_plain(own)
    assert_plain(error)
    assert LITERAL in own
    assert "Traceback" in error
    assert "OSError" in error
    assert "warning: UserWarning" in error


def test_no_command_writes_markup_which_would_be_shown_as_it_stands() -> None:
    for file in Path(cli.__file__).parent.glob("*.py"):
        assert not re.search(r"\[/?(bold|red|green|dim|link)\b", file.read_text()), file
