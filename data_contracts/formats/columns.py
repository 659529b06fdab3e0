"""What the columns of a row say: a conversation, a question and its answer, two answers to one.

What stands before the answer that a row is about (the prompt of a pair, say) is context and is
not learnt, as in the libraries that these formats come from.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import Fields, Notes, is_empty, is_list
from data_contracts.formats.tools import json_text
from data_contracts.formats.turns import (
    ANSWERS,
    CONTENT_FIELDS,
    QUESTIONS,
    ROLE_FIELDS,
    plain_text,
    read_turns,
)
from data_contracts.records import Message

CONVERSATIONS = (
    *("messages", "conversations", "conversation", "dialog", "dialogue", "chat"),
    *("turns", "contents"),
)
SYSTEM = ("system", "system_prompt", "systemInstruction", "system_instruction")
# What an Alpaca row adds to its instruction.
INPUTS = ("input", "context")
CHOSEN = ("chosen", "chosen_response", "preferred_output")
REJECTED = ("rejected", "rejected_response", "non_preferred_output")
# Anthropic's HH-RLHF writes whole conversations as text.
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


@dataclass(frozen=True)
class Conversation:
    """What a row says: its turns, and how it would have ended less well."""

    messages: tuple[Message, ...]
    rejected: tuple[Message, ...] = ()


# -- a list of turns -------------------------------------------------------------------------


def has_turns(fields: Fields) -> bool:
    return _turns(fields) is not None


def _turns(fields: Fields) -> tuple[str, Any] | None:
    """The column that lists turns, and the list; some write it as JSON text."""
    for name in CONVERSATIONS:
        value = fields.peek(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            with contextlib.suppress(RowRejected):
                value = json_text(value, name)
        if is_list(value) and not is_empty(value):
            return name, value
    return None


def turns_format(fields: Fields) -> str:
    """What people call this way of writing turns."""
    found, turns = _turns(fields), _mappings(fields)
    name = found[0] if found else ""
    if any("from" in turn for turn in turns):
        return "ShareGPT"
    if any("parts" in turn for turn in turns):
        return "Gemini"
    if any(_anthropic(turn.get("content")) for turn in turns):
        return "Anthropic messages"
    if name == "messages" and "system" in fields:
        return "Anthropic messages"
    if all(is_empty(turn.get("role")) for turn in turns):
        return f"pairs in {name}"
    return "OpenAI chat" if name == "messages" else f"ChatML in {name}"


def _mappings(fields: Fields) -> list[Mapping[str, Any]]:
    found = _turns(fields)
    return [turn for turn in found[1] if isinstance(turn, Mapping)] if found else []


def _anthropic(content: Any) -> bool:
    kinds = ("tool_use", "tool_result", "thinking")
    parts = content if is_list(content) else ()
    return any(isinstance(part, Mapping) and part.get("type") in kinds for part in parts)


def read_listed(fields: Fields) -> tuple[Message, ...]:
    """The turns of the column that lists them."""
    found = _turns(fields)
    if found is None:
        raise ValueError("the row lists no turns")
    name, value = found
    fields.take(name)
    return read_turns(value, fields.notes)


def read_conversation(fields: Fields) -> Conversation:
    """A row whose turns are listed; with `rejected`, its end is the side that people preferred."""
    is_own = any("learnt" in turn for turn in _mappings(fields))
    messages = read_listed(fields)
    name = fields.first(REJECTED)
    if name is None or not _is_side(fields.peek(name)):
        return Conversation(messages)
    rejected = _side(fields.take(name), fields.notes)
    if is_own:  # Evergreen wrote it, and which turns are to be learnt
        return Conversation(messages, rejected)
    end = len(messages) - 1
    while end > 0 and messages[end - 1].role in ("assistant", "tool"):
        end -= 1
    return Conversation((*_context(messages[:end], fields.notes), *messages[end:]), rejected)


# -- a question and its answer ---------------------------------------------------------------


def has_answer(fields: Fields) -> bool:
    return fields.first(QUESTIONS) is not None and _answer(fields) is not None


def _answer(fields: Fields) -> str | None:
    """The column with the answer, be it empty."""
    given = (name for name in ANSWERS if fields.peek(name) is not None)
    return fields.first(ANSWERS) or next(given, None)


def answer_format(fields: Fields) -> str:
    names = f"{fields.first(QUESTIONS)}/{_answer(fields)}"
    return "Alpaca" if names == "instruction/output" else names


def read_answer(fields: Fields) -> Conversation:
    asked = _asked(fields)
    answer = _side(fields.take(*ANSWERS), fields.notes)
    return Conversation((*asked, *answer))


def _asked(fields: Fields) -> tuple[Message, ...]:
    """The turns before the answer: history, and the question."""
    name = fields.first(QUESTIONS)
    question = None if name is None else fields.take(name)
    if is_list(question):
        turns = _context(read_turns(question, fields.notes), fields.notes)
    elif question is None:
        turns = ()
    else:
        text = plain_text(question)
        more = fields.take(*INPUTS) if name == "instruction" else None
        if not isinstance(more, str):
            if not is_empty(more):
                fields.unknown("input")
        elif more.strip():
            text = f"{text}\n\n{more}"
        turns = (Message(role="user", content=text),)
    return (*_history(fields), *turns)


def _history(fields: Fields) -> tuple[Message, ...]:
    """Earlier rounds: pairs of texts, or turns. LLaMA-Factory learns their answers too."""
    history = fields.take("history")
    if is_empty(history):
        return ()
    if not is_list(history):
        raise RowRejected("history: not a list")
    return tuple(message for turn in history for message in _round(turn, fields.notes))


def _round(turn: Any, notes: Notes) -> tuple[Message, ...]:
    if not is_list(turn):
        return read_turns([turn], notes)
    texts = list(turn)
    if len(texts) != 2:
        raise RowRejected("history: not pairs of question and answer")
    return (
        Message(role="user", content=plain_text(texts[0])),
        Message(role="assistant", content=plain_text(texts[1])),
    )


# -- two answers to one question -------------------------------------------------------------


def has_pair(fields: Fields) -> bool:
    return fields.first(CHOSEN) is not None and fields.first(REJECTED) is not None


def pair_format(fields: Fields) -> str:
    if "preferred_output" in fields:
        return "preference pair (OpenAI)"
    if "conversations" in fields:
        return "preference pair (ShareGPT)"
    return "preference pair"


def read_pair(fields: Fields) -> Conversation:
    """A prompt with the answer people preferred and the one they did not.

    The prompt may be missing: then it is what both sides begin with.
    """
    asked = _prompt(fields)
    notes = fields.notes
    chosen, rejected = fields.take(*CHOSEN), fields.take(*REJECTED)
    if isinstance(chosen, str) and isinstance(rejected, str) and not asked:
        return _from_texts(chosen, rejected, notes)
    good, bad = _side(chosen, notes), _side(rejected, notes)
    if good and good[0].role != "assistant":
        # Each side is a whole conversation; a prompt beside it says the same once more.
        shared = _shared(good, bad)
        asked, good, bad = good[:shared], good[shared:], bad[shared:]
    return Conversation((*_context(asked, notes), *good), bad)


def _prompt(fields: Fields) -> tuple[Message, ...]:
    """What both answers of a pair are given to."""
    notes = fields.notes
    if isinstance(fields.peek("input"), Mapping):  # OpenAI's
        inner = Fields(fields.take("input"), notes, "input.")
        asked = read_turns(inner.take("messages"), notes)
        for name in ("tools", "parallel_tool_calls"):
            fields.adopt(name, inner.take(name))
        inner.close()
        return asked
    return read_listed(fields) if has_turns(fields) else _asked(fields)


def _is_side(value: Any) -> bool:
    return isinstance(value, str | Mapping) or is_list(value)


def _side(value: Any, notes: Notes) -> tuple[Message, ...]:
    """An answer, as text, as one turn or as turns."""
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    if isinstance(value, Mapping):
        return read_turns([_with_role(value)], notes)
    if not is_list(value):
        raise RowRejected("messages.content: missing or not text")
    return read_turns(value, notes)


def _with_role(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    if any(turn.get(name) is not None for name in ROLE_FIELDS):
        return turn
    if any(turn.get(name) is not None for name in CONTENT_FIELDS):
        return {**turn, "role": "assistant"}
    return turn


def _shared(one: Sequence[Message], other: Sequence[Message]) -> int:
    """Turns that both begin with; each keeps at least one of its own."""
    count = 0
    for mine, theirs in zip(one[:-1], other[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _from_texts(chosen: str, rejected: str, notes: Notes) -> Conversation:
    """Sides as text with the prompt in them: a transcript, or words that both begin with."""
    if SPEAKER.match(chosen) and SPEAKER.match(rejected):
        good, bad = _transcript(chosen), _transcript(rejected)
        shared = _shared(good, bad)
        return Conversation((*_context(good[:shared], notes), *good[shared:]), bad[shared:])
    pairs = enumerate(zip(chosen, rejected, strict=False))
    differs = next((at for at, (mine, theirs) in pairs if mine != theirs), len(chosen))
    prompt = chosen[:differs].rpartition(" ")[0]
    if not prompt.strip():
        raise RowRejected("row: a pair without a prompt")
    return Conversation(
        (Message(role="user", content=prompt), *_side(chosen[len(prompt) :], notes)),
        _side(rejected[len(prompt) :], notes),
    )


def _transcript(text: str) -> tuple[Message, ...]:
    _, *parts = SPEAKER.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(
        Message(role=roles[speaker], content=said.strip())
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    )


def _context(messages: Iterable[Message], notes: Notes) -> tuple[Message, ...]:
    """The messages with the assistant's turns not to be learnt, which is noted."""
    marked = []
    for message in messages:
        if message.role == "assistant" and message.learnt:
            notes.unlearnt["before the answer that the row is about"] += 1
            message = message.model_copy(update={"learnt": False})
        marked.append(message)
    return tuple(marked)
