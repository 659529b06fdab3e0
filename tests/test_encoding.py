"""What a training learns from is made and proven before any rank starts, and what it leaves out is
counted and bounded."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ConfigError, ModelError, TrainingError
from data_contracts.records import Message, Record
from data_contracts.snapshots import write_records
from data_contracts.workspace import Workspace
from flows.settings import load_settings
from models.base import ModelSettings, load_tokenizer, resolve_base
from models.chat import NOTHING_LEARNT, TOO_LONG, Example
from models.encoding import (
    conversations,
    read_encoding,
    require_held_out,
    validation_split,
    write_encoding,
)
from models.packing import example_steps
from models.score import ItemLoss, sum_by_id
from models.spec import FinetuneSpec, Recipe
from models.template import FOLDED
from tests.families import FAMILIES, chat_template
from tests.tiny import conversations as tiny_conversations

RECORDS = [Record.model_validate({**row, "source": "x"}) for row in tiny_conversations(60)]


def refused(identifier: str) -> Record:
    """What a template whose turns alternate does not take."""
    first = Message(role="assistant", content="hello")
    return Record(id=identifier, messages=(first, *RECORDS[0].messages), source="x")


@pytest.fixture
def job(tiny_model: Path, workspace: Workspace) -> Callable[..., FinetuneSpec]:
    """A training of these conversations under a family's template."""

    def make(family: str, records: Sequence[Record], **recipe: Any) -> FinetuneSpec:
        folder = workspace.home / f"model-{family[:8]}"
        from transformers import AutoModelForCausalLM

        template = chat_template(tiny_model, FAMILIES.get(family, family))
        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        model.resize_token_embeddings(len(template.tokenizer))
        model.save_pretrained(folder)
        template.tokenizer.save_pretrained(folder)
        data = write_records(str(workspace.snapshots), "train", records, parent=None, provenance={})
        output = workspace.runs / "train-x"
        output.mkdir(parents=True, exist_ok=True)
        return FinetuneSpec(
            base=resolve_base(ModelSettings(base=str(folder), dtype="float32"), workspace.models),
            data=data,
            recipe=Recipe(**recipe),
            output=str(output),
        )

    return make


def test_what_is_written_is_what_is_learnt_from(job: Callable[..., FinetuneSpec]) -> None:
    talk = Record(id="two", messages=(*RECORDS[0].messages, *RECORDS[1].messages), source="x")
    spec = job("qwen3", [talk, *RECORDS[2:]])
    encoding = write_encoding(spec)
    examples, read = read_encoding(spec)
    assert read == encoding
    assert encoding.conversations == 59
    assert [example.id for example in examples[:2]] == ["two", "two"]
    assert encoding.examples == len(examples) == 60
    assert encoding.proven > 0
    tokenizer = load_tokenizer(spec.base)
    for example in examples:
        learnt = tokenizer.decode([one for one in example.labels if one >= 0])
        assert learnt.startswith("<think>\n\n</think>\n\nit is ")
        assert learnt.endswith("by the sea.<|im_end|>")


def test_skipping_is_bounded_and_says_why(job: Callable[..., FinetuneSpec]) -> None:
    long = Record(
        id="long",
        messages=(Message(role="user", content="word " * 600), RECORDS[0].messages[1]),
        source="x",
    )
    mute = Record(
        id="mute",
        messages=(RECORDS[0].messages[0], Message(role="assistant", content="no", learnt=False)),
        source="x",
    )
    data = [refused("first"), refused("second"), long, mute, *RECORDS]
    with pytest.raises(TrainingError, match="4 of 64 conversations") as raised:
        write_encoding(job("gemma", data))
    for part in ("roles must alternate", "(2)", TOO_LONG, NOTHING_LEARNT, "max_skipped: 0.07"):
        assert part in str(raised.value)
    encoding = write_encoding(job("gemma", data, max_skipped=0.07))
    assert sum(encoding.skipped.values()) == 4
    assert set(encoding.ids).isdisjoint({"first", "second", "long", "mute"})
    assert any("roles must alternate" in line for line in encoding.remarks())


def test_where_everything_is_skipped_it_says_what_to_change(
    job: Callable[..., FinetuneSpec],
) -> None:
    with pytest.raises(TrainingError, match="none of 60 conversations.*raise train.max_length"):
        write_encoding(job("chatml", RECORDS, max_length=9, max_skipped=0.5))
    with pytest.raises(TrainingError, match="none of 2 conversations.*must alternate"):
        write_encoding(job("gemma", [refused("a"), refused("b")], max_skipped=0.9))


def test_what_was_adapted_is_counted(job: Callable[..., FinetuneSpec]) -> None:
    instructed = [
        one.model_copy(
            update={"messages": (Message(role="system", content="be brief."), *one.messages)}
        )
        for one in RECORDS[:7]
    ]
    encoding = write_encoding(job("gemma", [*instructed, *RECORDS[7:]]))
    assert encoding.skipped == {}
    assert encoding.changed == {FOLDED: 7}


def test_a_template_that_has_the_assistant_repeat_the_question_is_named(
    job: Callable[..., FinetuneSpec],
) -> None:
    quoting = (
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
        "{{ messages[loop.index0 - 1].content }}: {% endif %}{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    spec = job(quoting, RECORDS)
    with pytest.raises(TrainingError, match=r"message 1 \(user\) of conversation chat-0-0") as told:
        write_encoding(spec)
    assert "oslo" not in str(told.value)
    assert list(spec.output_path.iterdir()) == []


def test_what_a_template_marks_of_others_is_not_learnt(job: Callable[..., FinetuneSpec]) -> None:
    marked = (
        "{% for m in messages %}<|{{ m.role }}|>{% generation %}{{ m.content }}<|end|>"
        "{% endgeneration %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    spec = job(marked, RECORDS)
    write_encoding(spec)
    tokenizer = load_tokenizer(spec.base)
    for example in read_encoding(spec)[0]:
        learnt = tokenizer.decode([one for one in example.labels if one >= 0])
        assert learnt.startswith("it is ")


def test_held_out_conversations_that_nothing_can_be_said_of(
    job: Callable[..., FinetuneSpec], workspace: Workspace
) -> None:
    base = job("gemma", RECORDS).base
    held = write_records(
        str(workspace.snapshots), "holdout", [refused("a")], parent=None, provenance={}
    )
    with pytest.raises(TrainingError, match="none of 1 held-out conversations.*must alternate"):
        require_held_out(held, base, 512)


def test_a_conversations_examples_stay_together() -> None:
    examples = [
        Example(id_, (1, 2), (-100, 2))
        for id_ in ("a", "a", "b", "c", "c", "c", *map(str, range(90)))
    ]
    groups = conversations(examples)
    assert groups[:3] == [[0, 1], [2], [3, 4, 5]]
    for step in example_steps(groups, 4, 1.0, None, seed=3):
        ids = [examples[at].id for at in step]
        assert all(ids.count(id_) == sum(e.id == id_ for e in examples) for id_ in set(ids))
        assert len(set(ids)) <= 4
    learn, validation = validation_split(examples, 0.3)
    assert validation
    assert {e.id for e in learn}.isdisjoint({e.id for e in validation})
    assert len(learn) + len(validation) == len(examples)
    assert validation_split(examples[:6], 0.5) == (examples[:6], [])


def test_losses_of_a_conversation_are_summed() -> None:
    items = [
        ItemLoss(id="b", loss_sum=1.0, tokens=2),
        ItemLoss(id="a", loss_sum=5.0, tokens=1),
        ItemLoss(id="b", loss_sum=2.0, tokens=3),
    ]
    assert sum_by_id(items) == [ItemLoss(id="b", loss_sum=3.0, tokens=5), items[1]]


# -- settings ------------------------------------------------------------------------


def test_settings_of_the_chat_template(tmp_path: Path) -> None:
    file = tmp_path / "evergreen.yaml"
    file.write_text("model: {chat_template_kwargs: {enable_thinking: false}}", encoding="utf-8")
    assert load_settings(file).model.chat_template_kwargs == {"enable_thinking": False}
    file.write_text("model: {chat_template_kwargs: {tools: []}}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"chat_template_kwargs.*tools cannot be set"):
        load_settings(file)
    file.write_text("train: {max_skipped: 1.5}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"train.max_skipped"):
        load_settings(file)


def test_the_settings_are_the_bases(tiny_model: Path, tmp_path: Path) -> None:
    settings = ModelSettings(
        base=str(tiny_model), chat_template_kwargs={"enable_thinking": False}, fold_system=False
    )
    base = resolve_base(settings, tmp_path)
    assert base.chat_template_kwargs == {"enable_thinking": False}
    assert not base.fold_system
    older = type(base).model_validate(
        base.model_dump(exclude={"chat_template_kwargs", "fold_system"})
    )
    assert older.fold_system
    assert older.chat_template_kwargs == {}


def test_a_tokenizer_that_does_not_tell_where_its_tokens_stand(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "ByT5Tokenizer"}), encoding="utf-8"
    )
    base = resolve_base(ModelSettings(base=str(folder), dtype="float32"), tmp_path / "store")
    with pytest.raises(ModelError, match="ByT5Tokenizer.*is not a fast one"):
        load_tokenizer(base)
