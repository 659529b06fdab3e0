"""Field cases with models whose templates and layers made trouble: see what is learnt of each, plan
it, and save and read back what has an adapter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_contracts.formats import parse_record
from data_contracts.records import Record
from models.adapters import WEIGHTS, Adapter, load_model, save_adapter
from models.base import Base, ModelSettings, load_weights, resolve_base
from models.chat import encode_all
from models.generate import answer
from models.lora import attach_lora, remarks_on
from models.objective import Objective
from models.probe import Probe
from models.proof import Masks
from models.spec import Recipe
from models.template import FOLDED, ChatTemplate, load_template
from tests.architectures import make_model
from tests.commands import evergreen, tiny_settings
from tests.families import chat_template

CASES = Path(__file__).parent / "data" / "field_cases"
QWEN3, GEMMA2, MIXTRAL, GEMMA3 = (
    CASES / name
    for name in (
        "18-qwen3-multi-turn",
        "19-gemma2-system",
        "22-moe-fused-experts",
        "24-gemma3-multimodal",
    )
)


def template_text(case: Path) -> str:
    return (case / "chat_template.jinja").read_text("utf-8")


def rows(file: Path) -> list[Record]:
    lines = file.read_text("utf-8").splitlines()
    return [
        parse_record(json.loads(line), source="s", position=at) for at, line in enumerate(lines)
    ]


def learnt_turns(template: ChatTemplate, record: Record) -> list[str]:
    """The texts that carry loss, one a turn; it is proven that nothing else does."""
    masks = Masks(template, record)
    assert list(masks.faults()) == []
    return [turn.learnt for each in masks.renderings for turn in each.turns]


def says(record: Record, role: str) -> list[str]:
    return [one.content for one in record.messages if one.role == role]


@pytest.mark.parametrize("name", ["chats.jsonl", "thinking.jsonl"])
def test_case_18_answers_are_learnt_and_nothing_else(name: str, tiny_model: Path) -> None:
    template = chat_template(tiny_model, template_text(QWEN3))
    some = rows(QWEN3 / name)
    for record in some:
        learnt = learnt_turns(template, record)
        answers = [said.rpartition("</think>")[2].strip() for said in says(record, "assistant")]
        assert len(answers) > 1
        for text, said in zip(learnt, answers, strict=True):
            assert text.endswith(f"{said}<|im_end|>")
            thoughts = text.removesuffix(f"{said}<|im_end|>")
            assert thoughts.startswith("<think>\n")
            assert thoughts.endswith("\n</think>\n\n")
            assert not any(asked in text for asked in says(record, "user"))
    examples, report = encode_all(template, some, 512)
    assert len(examples) == sum(len(says(record, "assistant")) for record in some)
    assert not report.skipped


@pytest.mark.parametrize("name", ["chats.jsonl", "allsystem.jsonl"])
def test_case_19_system_text_goes_into_the_first_question(name: str, tiny_model: Path) -> None:
    template = chat_template(tiny_model, template_text(GEMMA2))
    some = rows(GEMMA2 / name)
    for record in some:
        (system,) = says(record, "system") or [""]
        question = says(record, "user")[0]
        prepared = template.prepare(record)
        if system:
            assert f"<start_of_turn>user\n{system}\n\n{question}<end_of_turn>" in prepared.text
        learnt = learnt_turns(template, record)
        assert learnt == [f"{said}<end_of_turn>" for said in says(record, "assistant")]
    _, report = encode_all(template, some, 512)
    assert not report.skipped
    assert report.changed[FOLDED] == sum(bool(says(record, "system")) for record in some) > 0
    _, unfolded = encode_all(
        chat_template(tiny_model, template_text(GEMMA2), fold_system=False), some, 512
    )
    assert unfolded.skipped == {"no system role here": report.changed[FOLDED]}


def test_case_19_is_planned_on_the_command_line(tiny_model: Path, tmp_path: Path) -> None:
    model = make_model("gemma 2", tiny_model, tmp_path / "model", template_text(GEMMA2))
    settings = tiny_settings(tmp_path, model, data={"sources": [str(GEMMA2 / "chats.jsonl")]})
    done = evergreen("plan", "--config", settings, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert FOLDED in done.stdout


def saved_and_read_back(
    base: Base, records: list[Record], folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """The tensors of an adapter after a step, and what is remarked; it answers as it did."""
    template, device = load_template(base), torch.device("cpu")
    examples, report = encode_all(template, records, 256)
    assert not report.skipped
    tuned = attach_lora(load_weights(base), Recipe(lora_rank=4))
    objective = Objective(tuned, template.tokenizer.pad_token_id)
    objective.settle(examples, device, None)
    learning = [one for one in tuned.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    for _ in range(2):  # the first leaves one of each pair of matrices without a gradient
        optimizer.zero_grad()
        objective(**objective.batch(examples, device)).backward()
        optimizer.step()
    before = Probe.of(tuned.eval(), examples)
    save_adapter(tuned, folder, base)
    again = load_model(base, Adapter.at(folder))
    exact = {"float32": 1e-4, "bfloat16": 0.02}[base.dtype]
    assert before.distance(Probe.of(again, examples)) < exact
    assert isinstance(answer(again, template, records[0].messages[:1], max_new_tokens=4), str)
    return load_file(folder / WEIGHTS), remarks_on(tuned)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_case_22_experts_that_are_one_tensor(dtype: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = make_model("mixtral", tiny_model, tmp_path / "model", template_text(MIXTRAL))
    settings = ModelSettings.model_validate({"base": str(folder), "dtype": dtype})
    base = resolve_base(settings, tmp_path / "store")
    tensors, remarks = saved_and_read_back(base, rows(MIXTRAL / "chats.jsonl"), tmp_path / "a")
    assert all(bool(one.any()) for one in tensors.values())
    assert any("experts" in remark for remark in remarks)


def test_case_24_nothing_of_what_sees_is_in_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_model("gemma 3 that sees", tiny_model, tmp_path / "model", template_text(GEMMA3))
    base = resolve_base(ModelSettings(base=str(folder), dtype="float32"), tmp_path / "store")
    tensors, remarks = saved_and_read_back(base, rows(GEMMA3 / "chats.jsonl"), tmp_path / "a")
    assert tensors
    assert not [name for name in tensors if "vision" in name or "projector" in name]
    assert all(bool(one.any()) for one in tensors.values())
    assert any("language model alone" in remark for remark in remarks)
