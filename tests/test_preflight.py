"""What cannot be trained is said before a rank starts; what would fail again is not tried again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError, EvergreenError, ModelError, TrainingError
from models.base import ModelSettings, resolve_base
from models.preflight import check_device, check_model, check_positions
from models.spec import Phase, Recipe
from tasks.train import Event, TrainSettings, train
from tests.commands import assert_one_line_error, evergreen, tiny_settings
from tests.jobs import job, tiny_base
from tests.tiny import conversations, make_tiny_model, write_jsonl

RECIPE = Recipe(max_length=96, lora_rank=4)


def edited(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model to spoil."""
    return make_tiny_model(tmp_path / "spoilt")


def gpt2(folder: Path, tiny: Path, positions: int) -> Path:
    """With positions that are learnt: beyond the last there is nothing."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=positions, n_embd=32, n_layer=2, n_head=2,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# -- configuration -------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_more_tokens_than_positions(family: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = tiny_model if family == "llama" else gpt2(tmp_path / "gpt2", tiny_model, 512)
    base = tiny_base(folder, tmp_path)
    check_positions(base, {"train.max_length": 512})
    check_model(base, RECIPE.model_copy(update={"max_length": 512}))
    with pytest.raises(ConfigError, match="evaluate.max_length is 513, but .* has 512 positions"):
        check_positions(base, {"train.max_length": 512, "evaluate.max_length": 513})
    with pytest.raises(ConfigError, match="set train.max_length to 512 or less"):
        check_model(base, RECIPE.model_copy(update={"max_length": 513}))


def test_a_model_of_fewer_positions_than_the_conversations_have_tokens_trains_at_its_own_length(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = gpt2(tmp_path / "gpt2", tiny_model, 16)
    few: dict[str, Any] = {"max_steps": 2, "processes": 1, "validation_share": 0.0}
    too_long = TrainSettings(max_length=96, **few)
    started: list[Event] = []
    with pytest.raises(ConfigError, match="has 16 positions"):
        train(job(tmp_path / "long", folder, too_long, count=20), too_long, started.append)
    assert started == []
    shorter = TrainSettings(max_length=16, **few)
    trained = train(job(tmp_path / "short", folder, shorter, count=20), shorter)
    assert trained.metrics.steps == 2
    assert trained.metrics.truncated == 20


def fewer_rows(folder: Path, rows: int) -> None:
    """Embeddings for the first `rows` tokens only; the tokenizer stays."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows)
    model.save_pretrained(folder)


def test_a_tokenizer_of_another_model(model: Path, tmp_path: Path) -> None:
    fewer_rows(model, 300)
    with pytest.raises(ModelError, match=r"the tokenizer of .* has \d+ tokens, its model 300"):
        check_model(tiny_base(model, tmp_path), RECIPE)


def more_tokens(folder: Path, *, pad: bool) -> None:
    """A token that the model does not know, for padding or for nothing yet."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if pad:
        tokenizer.add_special_tokens({"pad_token": "<unknown>"})
    else:
        tokenizer.add_tokens(["<unknown>"], special_tokens=True)
    tokenizer.save_pretrained(folder)


def test_a_padding_token_that_the_model_does_not_know(model: Path, tmp_path: Path) -> None:
    more_tokens(model, pad=True)
    with pytest.raises(ModelError, match="the token '<unknown>' of .* has id"):
        check_model(tiny_base(model, tmp_path), RECIPE)


def test_a_token_that_nobody_uses_is_no_reason(model: Path, tmp_path: Path) -> None:
    """As Gemma 3's text models have one for pictures."""
    more_tokens(model, pad=False)
    check_model(tiny_base(model, tmp_path), RECIPE)


def test_a_conversation_with_a_token_that_the_model_does_not_know(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_tokens(model, pad=False)
    rows = conversations(20)
    rows[7]["messages"][0]["content"] += " <unknown>"
    monkeypatch.setattr("tests.jobs.conversations", lambda _: rows)
    settings = TrainSettings(max_length=96, max_steps=2, processes=2, validation_share=0)
    said: list[Event] = []
    with pytest.raises(TrainingError, match="'<unknown>' in conversation chat-0-7 has id"):
        train(job(tmp_path / "job", model, settings, count=20), settings, said.append)
    assert attempts(said) == 0, "it is found before ranks start"


def test_neither_padding_nor_end(model: Path, tmp_path: Path) -> None:
    edited(model / "tokenizer_config.json", lambda c: (c.pop("eos_token"), c.pop("pad_token")))
    (model / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="neither a padding nor an end-of-sequence token"):
        check_model(tiny_base(model, tmp_path), RECIPE)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ messages[0].content.nothing.at_all }}", "cannot render .* has no attribute 'nothing'"),
        ("{{ raise_exception('not today') }}", "cannot render .*not today"),
        ("{% for message in messages %}", "cannot render .*Unexpected end of template"),
        ("{{ messages[0].content + 1 }}", "cannot render .*TypeError"),
        ("{{ messages[0].content }}", "leaves out what the assistant says"),
    ],
)
def test_a_template_that_renders_nothing(
    model: Path, tmp_path: Path, template: str, says: str
) -> None:
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(ModelError, match=says):
        check_model(tiny_base(model, tmp_path), RECIPE)


def test_weights_of_another_size_than_the_configuration_says(model: Path, tmp_path: Path) -> None:
    edited(model / "config.json", lambda c: c.update(vocab_size=c["vocab_size"] + 64))
    with pytest.raises(ModelError, match=r"have \d+ embeddings, config.json says \d+"):
        check_model(tiny_base(model, tmp_path), RECIPE)


def test_weights_that_are_cut_short(model: Path, tmp_path: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be read"):
        check_model(tiny_base(model, tmp_path), RECIPE)


def test_no_causal_language_model(model: Path, tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=600, d_model=16, num_layers=1).save_pretrained(model)
    with pytest.raises(ModelError, match=r"no causal language model \(T5Config\)"):
        check_model(tiny_base(model, tmp_path), RECIPE)


@pytest.mark.parametrize("dora", [True, False])
def test_target_modules_that_do_not_exist(tiny_model: Path, tmp_path: Path, *, dora: bool) -> None:
    base = tiny_base(tiny_model, tmp_path)
    check_model(base, RECIPE.model_copy(update={"target_modules": ("q_proj",), "dora": dora}))
    wrong = RECIPE.model_copy(update={"target_modules": ("query",), "dora": dora})
    with pytest.raises(TrainingError, match=r"cannot attach LoRA .*train.target_modules"):
        check_model(base, wrong)


def test_four_bits_without_what_they_need() -> None:
    with pytest.raises(ConfigError, match=r"train.quantize is nf4, .*(bitsandbytes|CUDA)"):
        check_device(Recipe(quantize="nf4"), 1)


def test_a_base_with_too_few_positions_on_the_command_line(
    tiny_model: Path, tmp_path: Path, prefect_api: str
) -> None:
    data = write_jsonl(tmp_path / "chats.jsonl", conversations(60))
    folder = gpt2(tmp_path / "gpt2", tiny_model, 64)
    settings = tiny_settings(tmp_path, folder, data={"sources": [str(data)]})
    done = evergreen("retrain", "--config", settings, home=tmp_path / "home", timeout=900)
    assert_one_line_error(done, "train.max_length is 96", "64 positions")
    assert "IndexError" not in done.stderr
    planned = evergreen("plan", "--config", settings, home=tmp_path / "home", timeout=300)
    assert_one_line_error(planned, "train.max_length is 96", "64 positions")


# -- in a rank -----------------------------------------------------------------------

# What Python runs at its start: an error in the forward pass of a training step.
RAISES = """
from models.objective import Objective

plain, steps = Objective.forward, []

def forward(self, keep, targets, inputs):
    if self.training:
        steps.append(1)
        {statement}
    return plain(self, keep, targets, inputs)

Objective.forward = forward
"""
SETTINGS = TrainSettings(
    max_length=96, max_steps=12, epochs=9, processes=2, validation_share=0, checkpoint_steps=2
)


def attempts(events: list[Event]) -> int:
    return sum(isinstance(e, Phase) and e.text == "starting the processes" for e in events)


def failing(
    statement: str,
    model: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: TrainSettings = SETTINGS,
) -> tuple[EvergreenError, list[Event]]:
    """How a training ends in whose ranks `statement` is run at each pass, and what it said."""
    code = RAISES.format(statement=statement.format(folder=folder))
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path.cwd())]))
    said: list[Event] = []
    with pytest.raises(EvergreenError) as caught:
        train(job(folder / "job", model, settings), settings, said.append)
    return caught.value, said


@pytest.mark.parametrize(
    "error",
    ["TypeError", "IndexError", "ValueError", "KeyError", "AttributeError", "NotImplementedError"],
)
def test_an_error_of_the_program_is_reported_once(
    error: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = f"import os; os.environ['RANK'] == '1' and (_ for _ in ()).throw({error}('odd'))"
    problem, said = failing(statement, tiny_model, tmp_path, monkeypatch)
    assert attempts(said) == 1
    assert error in problem.problem
    assert "odd" in problem.problem
    assert "sitecustomize.py:" in problem.problem, "it does not say where"
    log = Path(problem.fix.split("; ")[1].split(" has ")[0])
    assert "Traceback" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("checkpoint_steps", "expected"),
    [(1000, 2), (2, 3)],
    ids=["at the same step", "at another step each time"],
)
def test_an_error_is_reported_once_it_comes_again_at_the_same_step(
    checkpoint_steps: int,
    expected: int,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statement = "if len(steps) == 4: raise RuntimeError(f'shapes differ, {{id(self)}}')"
    changed = SETTINGS.model_copy(update={"checkpoint_steps": checkpoint_steps})
    problem, said = failing(statement, tiny_model, tmp_path, monkeypatch, changed)
    assert attempts(said) == expected
    assert ("fails at step 4 each time" in problem.problem) is (expected == 2)
    assert "RuntimeError: shapes differ" in problem.problem


def test_what_may_end_otherwise_is_tried_as_often_as_it_may_be(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = (
        "if len(steps) == 2:"
        " raise RuntimeError('[third_party/gloo/gloo/transport/tcp/pair.cc] Connection closed')"
    )
    problem, said = failing(statement, tiny_model, tmp_path, monkeypatch)
    assert attempts(said) == SETTINGS.max_restarts + 1
    assert "Connection closed" in str(problem)


def test_a_base_is_resolved_as_before(tiny_model: Path, tmp_path: Path) -> None:
    """The checks leave the base as it was: they load no weights and write nothing."""
    base = resolve_base(ModelSettings(base=str(tiny_model), dtype="float32"), tmp_path)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tiny_model.iterdir())
    check_model(base, RECIPE)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in tiny_model.iterdir()) == before
