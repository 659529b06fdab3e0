"""What carries loss is what the assistant says, compared with masks made by hand."""

from pathlib import Path

import pytest

from data_contracts.records import Message, Record
from models.base import Base
from models.chat import IGNORED, NOTHING_LEARNT, TOO_LONG, collate, encode, encode_all
from models.template import ChatTemplate, Dialogue, load_template

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
# Where the conversation stands is told at the end of the last question, which makes every answer an
# example of its own.
MOVING = (
    "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m == users[-1] %} ({{ users | length }}){% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def template(tiny_model: Path) -> ChatTemplate:
    return load_template(
        Base(
            id="tiny",
            revision=None,
            path=str(tiny_model),
            digest="",
            tokenizer_digest="",
            dtype="float32",
        )
    )


def talk(*contents: str) -> list[Message]:
    return [
        Message(role="user" if turn % 2 == 0 else "assistant", content=content)
        for turn, content in enumerate(contents)
    ]


def record(identifier: str, messages: list[Message]) -> Record:
    return Record(id=identifier, messages=tuple(messages), source="x")


def supervised(template: ChatTemplate, messages: list[Message], max_length: int = 500) -> str:
    (example,), _ = encode(template, "x", Dialogue(messages), max_length)
    assert all(
        label in (IGNORED, token)
        for token, label in zip(example.input_ids, example.labels, strict=True)
    )
    return str(template.tokenizer.decode([label for label in example.labels if label != IGNORED]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "it is warm.<|end|>cold 🙂<|end|>"),
        (CHATML, "it is warm.<|end|>cold 🙂<|end|>"),
        # " it" is one token: the template's last space comes along with the first word.
        (STRICT, " it is warm.<|end|> cold 🙂<|end|>"),
    ],
)
def test_only_the_assistants_words_and_its_end_marker(
    template: ChatTemplate, text: str | None, expected: str
) -> None:
    if text:
        template.tokenizer.chat_template = text
    messages = talk("how is it?", "it is warm.", "and now?", "cold 🙂")
    assert supervised(template, messages) == expected


def test_words_of_the_assistant_in_the_users_mouth_carry_no_loss(template: ChatTemplate) -> None:
    assert supervised(template, talk("it is warm.", "it is warm.")) == "it is warm.<|end|>"


def test_what_is_cut_is_reported(template: ChatTemplate) -> None:
    records = [
        record("long", talk("hi", "word " * 200)),
        record("late", talk("word " * 200, "hi")),
        record("in part", talk("hi", "yes", "word " * 200, "no")),
        record("unanswered", talk("hi")),
    ]
    examples, report = encode_all(template, records, 64)
    assert [example.id for example in examples] == ["long", "in part"]
    assert len(examples[0].input_ids) == 64
    assert report.truncated == 3
    assert report.tokens_cut > 200
    assert (report.conversations, report.turns, report.turns_cut) == (4, 4, 2)
    assert report.skipped == {TOO_LONG: 1, NOTHING_LEARNT: 1}


@pytest.mark.parametrize("text", [None, CHATML, STRICT, MOVING])
def test_cutting_changes_nothing_of_what_is_left(template: ChatTemplate, text: str | None) -> None:
    template.tokenizer.chat_template = text or template.tokenizer.chat_template
    talks = Dialogue(talk("how is it?", "it is warm.", "by the sea?", "cold 🙂", "thanks", "bye"))
    whole, _ = encode(template, "x", talks, 500)
    for length in range(1, 1 + max(len(example.input_ids) for example in whole)):
        parts, _ = encode(template, "x", talks, length)
        assert len(parts) <= len(whole)
        for part, one in zip(parts, whole, strict=False):
            assert len(part.input_ids) <= length
            assert part.input_ids == one.input_ids[: len(part.input_ids)]
            assert part.labels == one.labels[: len(part.labels)]
        learnt = sum(part.supervised for part in parts)
        assert learnt == sum(label != IGNORED for one in whole for label in one.labels[1:length])


def test_a_conversation_of_very_many_turns_is_read_as_far_as_it_is_learnt(
    template: ChatTemplate,
) -> None:
    many = talk(*["a b c"] * 4000)
    (example,), report = encode(template, "x", Dialogue(many), 64)
    assert len(example.input_ids) <= 64
    assert report.turns_cut > 1900


def test_a_conversation_the_template_refuses_is_skipped_with_the_reason(
    template: ChatTemplate,
) -> None:
    template.tokenizer.chat_template = STRICT
    first = [Message(role="assistant", content="c"), Message(role="user", content="b")]
    examples, report = encode_all(template, [record("first", [*first, first[0]])], 64)
    assert examples == []
    assert report.skipped == {"roles must alternate": 1}


def test_padding_carries_neither_attention_nor_loss(template: ChatTemplate) -> None:
    records = [record("a", talk("hi", "yes")), record("b", talk("hi", "a longer answer"))]
    examples, _ = encode_all(template, records, 64)
    batch = collate(examples, template.tokenizer.pad_token_id)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        assert batch["attention_mask"][row].sum() == length
        assert (batch["labels"][row, length:] == IGNORED).all()
