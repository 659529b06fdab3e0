"""What carries loss is what the assistant says, compared with masks made by hand."""

from pathlib import Path
from typing import Any

import pytest

from data_contracts.records import Message
from models.base import Base, load_tokenizer
from models.chat import IGNORED, collate, encode, encode_all

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


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(
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


def supervised(tokenizer: Any, messages: list[Message], max_length: int = 500) -> str:
    example, _ = encode(tokenizer, "x", messages, max_length)
    assert all(
        label in (IGNORED, token)
        for token, label in zip(example.input_ids, example.labels, strict=True)
    )
    return str(tokenizer.decode([label for label in example.labels if label != IGNORED]))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "it is warm.<|end|>cold 🙂<|end|>"),
        (CHATML, "it is warm.<|end|>cold 🙂<|end|>"),
        # " it" is one token: the template's last space comes along with the first word.
        (STRICT, " it is warm.<|end|> cold 🙂<|end|>"),
    ],
)
def test_only_the_assistants_words_and_its_end_marker(
    tokenizer: Any, template: str | None, expected: str
) -> None:
    if template:
        tokenizer.chat_template = template
    messages = talk("how is it?", "it is warm.", "and now?", "cold 🙂")
    assert supervised(tokenizer, messages) == expected


def test_words_of_the_assistant_in_the_users_mouth_carry_no_loss(tokenizer: Any) -> None:
    assert supervised(tokenizer, talk("it is warm.", "it is warm.")) == "it is warm.<|end|>"


def test_what_is_cut_is_reported(tokenizer: Any) -> None:
    rows = [("long", talk("hi", "word " * 200)), ("late", talk("word " * 200, "hi"))]
    examples, report = encode_all(tokenizer, rows, 64)
    assert [example.id for example in examples] == ["long"]
    assert len(examples[0].input_ids) == 64
    assert report.truncated == 2
    assert report.tokens_cut > 200
    assert report.skipped == ["late"]


@pytest.mark.parametrize("template", [None, CHATML, STRICT])
def test_cutting_changes_nothing_of_what_is_left(tokenizer: Any, template: str | None) -> None:
    tokenizer.chat_template = template or tokenizer.chat_template
    messages = talk("how is it?", "it is warm.", "and by the sea?", "cold 🙂", "thanks", "bye now")
    whole, _ = encode(tokenizer, "x", messages, 500)
    for length in range(1, len(whole.input_ids) + 1):
        part, cut = encode(tokenizer, "x", messages, length)
        assert part.labels == whole.labels[:length]
        assert (part.input_ids, cut) == (whole.input_ids[:length], len(whole.input_ids) - length)


def test_a_conversation_the_template_refuses_is_skipped_and_reported(tokenizer: Any) -> None:
    tokenizer.chat_template = STRICT
    twice = [Message(role="user", content="a"), Message(role="user", content="b")]
    examples, report = encode_all(
        tokenizer, [("twice", [*twice, Message(role="assistant", content="c")])], 64
    )
    assert examples == []
    assert report.skipped == ["twice"]


def test_padding_carries_neither_attention_nor_loss(tokenizer: Any) -> None:
    examples, _ = encode_all(
        tokenizer, [("a", talk("hi", "yes")), ("b", talk("hi", "a longer answer"))], 64
    )
    batch = collate(examples, tokenizer.pad_token_id)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        assert batch["attention_mask"][row].sum() == length
        assert (batch["labels"][row, length:] == IGNORED).all()
