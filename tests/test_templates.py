"""What is learnt under templates that behave as known families' do, and under odder ones."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import TrainingError
from data_contracts.records import Message, Record, ToolCall
from models import renderings as made
from models.chat import IGNORED, encode
from models.proof import Masks, prove
from models.template import (
    DEVELOPER_AS_SYSTEM,
    FOLDED,
    JOINED,
    NO_END,
    NO_REASONING,
    NO_TOOLS,
    OTHER_PROMPT,
    SHORT_IDS,
    ChatTemplate,
    Dialogue,
    TemplateRefusal,
)
from tests.families import FAMILIES, chat_template

TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "Reads it.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
        for name in ("weather", "tide")
    ]
)


def user(content: str) -> Message:
    return Message(role="user", content=content)


def said(content: str = "", *calls: str, **more: Any) -> Message:
    made = tuple(
        ToolCall(id=f"call_{name}_of_oslo", name=name, arguments='{"city": "oslo"}')
        for name in calls
    )
    return Message(role="assistant", content=content, tool_calls=made, **more)


def system(content: str, role: str = "system") -> Message:
    return Message(role=role, content=content)


def tool(content: str, name: str) -> Message:
    return Message(role="tool", content=content, name=name, tool_call_id=f"call_{name}_of_oslo")


TALK = (user("how is oslo?"), said("it is warm."), user("and lima?"), said("rainy, too."))
THOUGHT = (
    user("how is oslo?"),
    said("it is warm.", reasoning="the gulf stream"),
    user("and lima?"),
    said("rainy, too.", reasoning="fog by the sea"),
)
CALL = (
    user("how is oslo?"),
    said("", "weather", reasoning="i need to look"),
    tool("14 degrees", "weather"),
    said("it is warm."),
    user("thanks"),
    said("you are welcome."),
)
BOTH = (
    user("oslo and its sea?"),
    said("", "weather", "tide"),
    tool("14 degrees", "weather"),
    tool("it is high", "tide"),
    said("warm and high."),
)


@pytest.fixture
def of(tiny_model: Path) -> Callable[..., ChatTemplate]:
    def build(family: str, **settings: Any) -> ChatTemplate:
        template: ChatTemplate = chat_template(tiny_model, FAMILIES[family], **settings)
        return template

    return build


def learnt(
    template: ChatTemplate, messages: Sequence[Message], tools: str | None = None
) -> list[list[str]]:
    """The answers that each example learns, as its tokens say."""
    examples, _ = encode(template, "x", Dialogue(messages, tools), 10_000)
    return [list(_runs(template, example.labels)) for example in examples]


def _runs(template: ChatTemplate, labels: Sequence[int]) -> Iterator[str]:
    run: list[int] = []
    for label in (*labels, IGNORED):
        if label != IGNORED:
            run.append(label)
        elif run:
            yield template.tokenizer.decode(run)
            run = []


def shown(template: ChatTemplate, messages: Sequence[Message]) -> list[str]:
    examples, _ = encode(template, "x", Dialogue(messages), 10_000)
    return [template.tokenizer.decode(example.input_ids) for example in examples]


def changes(
    template: ChatTemplate, messages: Sequence[Message], tools: str | None = None
) -> set[str]:
    return set(encode(template, "x", Dialogue(messages, tools), 10_000)[1].changed)


# -- what is learnt ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("chatml", [["it is warm.<|im_end|>", "rainy, too.<|im_end|>"]]),
        (
            "qwen3",
            [
                ["<think>\n\n</think>\n\nit is warm.<|im_end|>"],
                ["<think>\n\n</think>\n\nrainy, too.<|im_end|>"],
            ],
        ),
        ("gemma", [["it is warm.<end_of_turn>", "rainy, too.<end_of_turn>"]]),
        ("mistral", [[" it is warm.<eos>", " rainy, too.<eos>"]]),
        ("deepseek", [["it is warm.<|eos|>", "rainy, too.<|eos|>"]]),
        ("nemotron", [["</think>it is warm.<|im_end|>", "</think>rainy, too.<|im_end|>"]]),
        ("llama", [["it is warm.<|eot|>", "rainy, too.<|eot|>"]]),
        (
            "harmony",
            [
                ["<|channel|>final<|message|>it is warm.<|return|>"],
                ["<|channel|>final<|message|>rainy, too.<|return|>"],
            ],
        ),
        ("glm", [["it is warm.<|user|>", "rainy, too.<|user|>"]]),
        ("phi3", [["it is warm.<|end|>", "rainy, too.<|end|>\n<eos>"]]),
        ("marked", [["it is warm.<|im_end|>\n", "rainy, too.<|im_end|>\n"]]),
        ("parts", [[" it is warm.<end_of_utterance>", " rainy, too.<end_of_utterance>"]]),
        ("llava", [[" it is warm.</s>", " rainy, too.</s>"]]),
        ("window", [["it is warm.<|im_end|>", "rainy, too.<|im_end|>"]]),
        ("counting", [["it is warm.<|im_end|>"], ["rainy, too.<|im_end|>"]]),
        ("bare", [[" it is warm.", " rainy, too."]]),
    ],
)
def test_every_answer_as_it_will_be_generated(
    of: Callable[..., ChatTemplate], family: str, expected: list[list[str]]
) -> None:
    assert learnt(of(family), TALK) == expected


def test_every_family_is_tried() -> None:
    marks = test_every_answer_as_it_will_be_generated.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(FAMILIES) - {"clipped"}


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "qwen3",
            [
                ["<think>\nthe gulf stream\n</think>\n\nit is warm.<|im_end|>"],
                ["<think>\nfog by the sea\n</think>\n\nrainy, too.<|im_end|>"],
            ],
        ),
        (
            "nemotron",
            [
                [
                    "the gulf stream\n</think>\nit is warm.<|im_end|>",
                    "fog by the sea\n</think>\nrainy, too.<|im_end|>",
                ]
            ],
        ),
        (
            "harmony",
            [
                [
                    "<|channel|>analysis<|message|>the gulf stream<|end|><|start|>assistant"
                    "<|channel|>final<|message|>it is warm.<|return|>"
                ],
                [
                    "<|channel|>analysis<|message|>fog by the sea<|end|><|start|>assistant"
                    "<|channel|>final<|message|>rainy, too.<|return|>"
                ],
            ],
        ),
        ("marked", [["it is warm.<|im_end|>\n", "rainy, too.<|im_end|>\n"]]),
        ("chatml", [["it is warm.<|im_end|>", "rainy, too.<|im_end|>"]]),
    ],
)
def test_thoughts_are_learnt_where_they_are_written(
    of: Callable[..., ChatTemplate], family: str, expected: list[list[str]]
) -> None:
    assert learnt(of(family), THOUGHT) == expected
    assert (NO_REASONING in changes(of(family), THOUGHT)) == (family in ("marked", "chatml"))


def test_a_later_turn_is_learnt_after_what_its_prompt_will_show(
    of: Callable[..., ChatTemplate],
) -> None:
    first, second = shown(of("qwen3"), THOUGHT)
    assert "the gulf stream" in first
    assert "the gulf stream" not in second
    assert "it is warm." in second
    *_, windowed = shown(of("window"), (*TALK, user("so?"), said("both.")))
    assert windowed.startswith("<|im_start|>user\nand lima?<|im_end|>\n")
    instructed = (system("be brief."), *TALK)
    first, second = shown(of("mistral"), instructed)
    assert first == "<bos>[INST] be brief.\n\nhow is oslo?[/INST] it is warm.<eos>"
    assert second == (
        "<bos>[INST] how is oslo?[/INST] it is warm.<eos>"
        "[INST] be brief.\n\nand lima?[/INST] rainy, too.<eos>"
    )


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "qwen3",
            [
                '<think>\ni need to look\n</think>\n\n<tool_call>\n{"name": "weather",'
                ' "arguments": {"city": "oslo"}}\n</tool_call><|im_end|>',
                "<think>\n\n</think>\n\nit is warm.<|im_end|>",
                "<think>\n\n</think>\n\nyou are welcome.<|im_end|>",
            ],
        ),
        (
            "llama",
            [
                '{"name": "weather", "parameters": {"city": "oslo"}}<|eot|>',
                "it is warm.<|eot|>",
                "you are welcome.<|eot|>",
            ],
        ),
        (
            "deepseek",
            [
                '<|call|>weather\n{"city": "oslo"}<|/call|><|eos|>',
                "it is warm.<|eos|>",
                "you are welcome.<|eos|>",
            ],
        ),
        (
            "harmony",
            [
                "<|channel|>analysis<|message|>i need to look<|end|><|start|>assistant"
                ' to=functions.weather<|channel|>commentary<|message|>{"city": "oslo"}<|call|>',
                "<|channel|>final<|message|>it is warm.<|return|>",
                "<|channel|>final<|message|>you are welcome.<|return|>",
            ],
        ),
        (
            "glm",
            [
                "<tool_call>weather city=oslo</tool_call><|observation|>",
                "it is warm.<|user|>",
                "you are welcome.<|user|>",
            ],
        ),
    ],
)
def test_calls_and_what_is_said_to_the_tools_answer(
    of: Callable[..., ChatTemplate], family: str, expected: list[str]
) -> None:
    answers = [answer for example in learnt(of(family), CALL, TOOLS) for answer in example]
    assert answers == expected


def test_what_a_prompt_shows_and_the_whole_does_not(of: Callable[..., ChatTemplate]) -> None:
    """Harmony drops the thoughts before a call once the answer is there; at inference they are."""
    texts = shown(of("harmony"), CALL[:4])
    assert sum("i need to look" in text for text in texts) == 1
    assert "i need to look" in texts[-1] or len(texts) == 1


def test_calls_at_once(of: Callable[..., ChatTemplate]) -> None:
    (first, _), *_ = [learnt(of("glm"), BOTH, TOOLS)[0]]
    assert first == (
        "<tool_call>weather city=oslo</tool_call><tool_call>tide city=oslo</tool_call>"
        "<|observation|>"
    )
    with pytest.raises(TemplateRefusal, match="only supports single tool-calls"):
        learnt(of("llama"), BOTH, TOOLS)
    with pytest.raises(TemplateRefusal, match="does not write every tool call"):
        learnt(of("harmony"), BOTH, TOOLS)
    with pytest.raises(TemplateRefusal, match="does not write tool calls"):
        learnt(of("chatml"), BOTH, TOOLS)


def test_ids_of_calls_that_a_template_takes(of: Callable[..., ChatTemplate]) -> None:
    (call,), (answer,) = learnt(of("mistral"), CALL[:4], TOOLS)
    assert SHORT_IDS in changes(of("mistral"), CALL[:4], TOOLS)
    (made,) = json.loads(call.removeprefix("[TOOL_CALLS] ").removesuffix("<eos>"))
    assert (made["name"], made["arguments"], len(made["id"])) == ("weather", {"city": "oslo"}, 9)
    assert f'"call_id": "{made["id"]}"' in shown(of("mistral"), CALL[:4])[-1]
    assert answer == " it is warm.<eos>"


def test_a_turn_that_is_not_to_be_learnt(of: Callable[..., ChatTemplate]) -> None:
    talk = (*TALK[:3], said("no idea.", learnt=False), user("so?"), said("rainy."))
    for family in set(FAMILIES) - {"clipped", "window", "counting"}:
        template = of(family)
        answers = " ".join(answer for some in learnt(template, talk) for answer in some)
        assert "it is warm." in answers, family
        assert "rainy." in answers, family
        assert "no idea" not in answers, family
        assert "no idea" in shown(template, talk)[-1], family


# -- what is adapted and refused -----------------------------------------------------


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_text_where_there_is_no_such_role(
    of: Callable[..., ChatTemplate], role: str
) -> None:
    talk = (system("be brief.", role), *TALK)
    assert shown(of("gemma"), talk) == [
        "<bos><start_of_turn>user\nbe brief.\n\nhow is oslo?<end_of_turn>\n"
        "<start_of_turn>model\nit is warm.<end_of_turn>\n"
        "<start_of_turn>user\nand lima?<end_of_turn>\n"
        "<start_of_turn>model\nrainy, too.<end_of_turn>\n"
    ]
    assert changes(of("gemma"), talk) == {FOLDED}
    prompt = of("gemma").write_prompt(Dialogue(talk[:2]))
    assert shown(of("gemma"), talk)[0].startswith(prompt)
    with pytest.raises(TemplateRefusal, match="System role not supported|must alternate"):
        learnt(of("gemma", fold_system=False), talk)


def test_developer_text_where_there_is_a_system_role(of: Callable[..., ChatTemplate]) -> None:
    talk = (system("be brief.", "developer"), *TALK[:2])
    assert shown(of("qwen3"), talk)[0].startswith("<|im_start|>system\nbe brief.<|im_end|>")
    assert changes(of("qwen3"), talk) == {DEVELOPER_AS_SYSTEM}
    assert changes(of("harmony"), talk) == set()


def test_system_text_that_comes_later(of: Callable[..., ChatTemplate]) -> None:
    talk = (*TALK[:2], system("now in french."), user("et lima?"), said("humide."))
    assert FOLDED in changes(of("harmony"), talk)
    assert "now in french.\n\net lima?" in shown(of("harmony"), talk)[-1]
    assert changes(of("chatml"), talk) == set()


def test_turns_that_do_not_alternate(of: Callable[..., ChatTemplate]) -> None:
    talk = (user("how is oslo?"), user("and lima?"), said("warm."), said("rainy."))
    assert learnt(of("gemma"), talk) == [["warm.\n\nrainy.<end_of_turn>"]]
    assert changes(of("gemma"), talk) == {JOINED}
    assert learnt(of("chatml"), talk) == [["warm.<|im_end|>", "rainy.<|im_end|>"]]
    with pytest.raises(TemplateRefusal, match="must alternate"):
        learnt(of("gemma"), (*talk[:3], said("no.", learnt=False)))
    with pytest.raises(TemplateRefusal, match="must alternate"):
        learnt(of("gemma"), (said("hello"), *TALK))


def test_what_is_left_out_is_told(of: Callable[..., ChatTemplate]) -> None:
    assert changes(of("chatml"), TALK, TOOLS) == {NO_TOOLS}
    assert changes(of("nemotron"), TALK) == {OTHER_PROMPT}
    assert changes(of("nemotron", enable_thinking=False), TALK) == set()
    assert changes(of("bare"), TALK) == {NO_END}
    with pytest.raises(TemplateRefusal, match="leaves out what the assistant says"):
        learnt(of("clipped"), (user("how is oslo?"), said("it is warm and windy.")))


def test_settings_of_the_template_reach_prompt_and_training(
    of: Callable[..., ChatTemplate],
) -> None:
    template = of("qwen3", enable_thinking=False)
    assert learnt(template, TALK) == [["it is warm.<|im_end|>"], ["rainy, too.<|im_end|>"]]
    assert template.write_prompt(Dialogue(TALK[:1])).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("family", "generated", "expected"),
    [
        ("qwen3", "<think>\nhm\n</think>\n\nit is warm.<|im_end|>", "it is warm."),
        ("qwen3", "it is warm.<|im_end|>", "it is warm."),
        ("harmony", "<|channel|>final<|message|>it is warm.<|return|>", "it is warm."),
        (
            "harmony",
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"
            "it is warm.<|return|>",
            "it is warm.",
        ),
        ("nemotron", "hm\n</think>\nit is warm.<|im_end|>", "it is warm."),
        ("gemma", "it is warm.<end_of_turn>", "it is warm."),
    ],
)
def test_an_answer_is_read_without_its_thoughts(
    of: Callable[..., ChatTemplate], family: str, generated: str, expected: str
) -> None:
    template = of(family)
    assert template.read_answer(template.tokenizer(generated)["input_ids"]) == expected


# -- the proof -----------------------------------------------------------------------


def record(messages: Sequence[Message], tools: str | None = None) -> Record:
    return Record(id="chat-1", messages=tuple(messages), source="x", tools=tools)


RECORDS = [
    record(TALK),
    record(THOUGHT),
    record(CALL, TOOLS),
    record((system("be brief."), *TALK)),
    record((user("<think> what is that?"), said("a <b>tag</b> 🙂\n\n  of <think>hm</think>it."))),
    record((*TALK[:3], said("no idea.", learnt=False), user("so?"), said("rainy."))),
]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"clipped"}))
def test_every_family_is_proven(of: Callable[..., ChatTemplate], family: str) -> None:
    proof = prove(of(family), RECORDS, base="tiny")
    assert proof.conversations >= 3
    assert proof.by_words == 0


def moved(text: str, start: int, end: int, words: str) -> dict[str, tuple[int, int]]:
    """Spans that are wrong, by what is wrong with them."""
    at = text.index(words, start)
    return {
        "with the header": (start - 9, end),
        "with the question": (start - 45, end),
        "from the middle": (at + len(words) // 2, end),
        "to the middle": (start, at + len(words) // 2),
        "without its end": (start, at + len(words)),
    }


@pytest.mark.parametrize("family", ["chatml", "qwen3", "harmony", "phi3", "gemma"])
@pytest.mark.parametrize("wrong", list(moved("abc", 0, 3, "abc")))
def test_wrong_masks_are_found(
    of: Callable[..., ChatTemplate], family: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, words = made.said_in, "it is warm and cold in oslo."

    def mistaken(template: ChatTemplate, prepared: Any, place: int) -> Any:
        turn = truth(template, prepared, place)
        assert turn is not None
        ((start, end),) = turn.spans
        return replace(turn, spans=(moved(turn.text, start, end, words)[wrong],))

    monkeypatch.setattr(made, "said_in", mistaken)
    talk = record((user("how is oslo? tell me more about the sea"), said(words)))
    assert list(Masks(of(family), talk).faults())


def test_a_mask_that_goes_on_into_the_next_question_is_found(
    of: Callable[..., ChatTemplate], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = made.said_in

    def longer(template: ChatTemplate, prepared: Any, place: int) -> Any:
        turn = truth(template, prepared, place)
        assert turn is not None
        return replace(turn, text=prepared.text, spans=((turn.spans[0][0], turn.end + 30),))

    talk = (*TALK[:2], user("and lima, by the sea?"))
    monkeypatch.setattr(made, "said_in", longer)
    faults = [str(fault) for fault in Masks(of("chatml"), record(talk)).faults()]
    assert any("message 3 (user)" in fault for fault in faults)


def test_the_first_counterexample_is_named_without_a_word_of_it(
    of: Callable[..., ChatTemplate], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = made.said_in

    def longer(template: ChatTemplate, prepared: Any, place: int) -> Any:
        turn = truth(template, prepared, place)
        return replace(turn, spans=((0, turn.end),))

    monkeypatch.setattr(made, "said_in", longer)
    with pytest.raises(TrainingError, match=r"message 1 \(user\) of conversation chat-1") as raised:
        prove(of("chatml"), [record(TALK)], base="tiny")
    assert "oslo" not in str(raised.value)


def test_a_template_that_treats_the_words_is_searched_for_them(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shouting = FAMILIES["chatml"].replace("{{ m.content }}", "{{ m.content | title | lower }}")
    template = chat_template(tiny_model, shouting)
    proof = prove(template, [record(TALK)], base="tiny")
    assert (proof.conversations, proof.by_words) == (1, 0)
    counted = FAMILIES["chatml"].replace(
        "{{ m.content }}", "{{ m.content }} ({{ m.content.count('o') }})"
    )
    template = chat_template(tiny_model, counted)
    assert prove(template, [record(TALK)], base="tiny").by_words == 1
    truth = made.said_in

    def all_of_it(template: ChatTemplate, prepared: Any, place: int) -> Any:
        turn = truth(template, prepared, place)
        return replace(turn, spans=((0, turn.end),))

    monkeypatch.setattr(made, "said_in", all_of_it)
    with pytest.raises(TrainingError, match=r"\(user\).*carries loss"):
        prove(template, [record(TALK)], base="tiny")
