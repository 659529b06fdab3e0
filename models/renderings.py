"""Which characters of which renderings the assistant says: the truth that masks are made of.

What a turn adds is what the template writes of the conversation up to it, beyond what it writes of
the messages before it as a prompt. That is what a model is given and has to say when it answers
there, whatever the template does to earlier turns.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.template import (
    NO_END,
    NO_REASONING,
    OTHER_PROMPT,
    SIGN,
    Chat,
    ChatTemplate,
    Prepared,
    TemplateRefusal,
    common_prefix,
    content_of,
    is_written,
    with_content,
)

Span = tuple[int, int]
PART_OF_MARKER = re.compile(r"[<\[][^<>\[\]\s]*\Z")


@dataclass(frozen=True)
class Said:
    """One turn in the rendering that ends with it: characters [start, end) of `text`, ascending.

    `prompted` says whether what stands before it is the template's prompt for it, `ended` whether
    a marker tells that it is over.
    """

    place: int
    text: str
    spans: tuple[Span, ...]
    prompted: bool = True
    ended: bool = True

    @property
    def end(self) -> int:
        return self.spans[-1][1]

    @property
    def learnt(self) -> str:
        """The text that is learnt."""
        return "".join(self.text[start:end] for start, end in self.spans)


@dataclass(frozen=True)
class Rendering:
    """A text and the turns that are learnt in it."""

    text: str
    turns: tuple[Said, ...]

    @property
    def spans(self) -> list[Span]:
        return [span for turn in self.turns for span in turn.spans]

    def turns_of(self, spans: Collection[int]) -> int:
        """How many turns the spans, by their places in `spans`, belong to."""
        owners = [turn.place for turn in self.turns for _ in turn.spans]
        return len({owners[at] for at in spans})


def renderings(
    template: ChatTemplate, prepared: Prepared, is_reached: Callable[[str, int], bool]
) -> list[Rendering]:
    """As few as hold every turn that is learnt in the form in which it is generated.

    Args:
        template: the chat template.
        prepared: a conversation that it takes.
        is_reached: whether a text is learnt from as far as a character; turns from the first that
            is not reached on are left out.

    Raises:
        TemplateRefusal: the template changes what the assistant says.
    """
    made: list[Rendering] = []
    learnt = [place for place, turn in enumerate(prepared.turns) if turn.learnt]
    for place in learnt:
        said = said_in(template, prepared, place)
        if said is None or said.spans[0][0] >= said.end:
            continue
        if not is_reached(said.text, said.spans[0][0]):
            break
        for at in reversed(range(len(made))):  # the newest has most in common
            if (shared := _extended(template, made[at], said)) is not None:
                made[at] = shared
                break
        else:
            made.append(Rendering(said.text, (said,)))
    return made


def said_in(template: ChatTemplate, prepared: Prepared, place: int) -> Said | None:
    """What the assistant's turn at `place` adds to a rendering; None where the template marks
    nothing of it as generated.

    Raises:
        TemplateRefusal: the template changes what the assistant says.
    """
    chats, tools = prepared.chats, prepared.tools
    last = place + 1 == len(chats)
    try:
        text = prepared.text if last else template.write(chats[: place + 1], tools)
    except TemplateRefusal:
        text = ""
    if template.marks_generation and text:
        _require_said(chats[place], text)
        spans = _marked(template, chats[: place + 1], prepared, text)
        return Said(place, text, spans) if spans else None
    said = _ended(template, prepared, _said(template, prepared, place, text))
    _require_said(chats[place], said.learnt)
    return said


def _said(template: ChatTemplate, prepared: Prepared, place: int, text: str) -> Said:
    chats, tools = prepared.chats, prepared.tools
    if not text:  # the template does not write the conversation up to here, but it does as a whole
        return _in_whole(template, prepared, place)
    end = len(text.rstrip())
    try:
        prompt = template.write(chats[:place], tools, prompt=True)
    except TemplateRefusal:  # nothing can be answered here, as where the assistant speaks first
        start = _first_word(template, chats[: place + 1], tools, text)
        return Said(place, text, ((start, end),), prompted=False)
    if text.startswith(prompt):
        return Said(place, text, ((len(prompt), end),))
    common = common_prefix(prompt, text)
    first = _first_word(template, chats[: place + 1], tools, text)
    if not any(_holds(prompt[common:], chat) for chat in chats[:place]):
        # The prompt ends in a way of its own, with the beginning of a block of thoughts, say.
        if part := PART_OF_MARKER.search(prompt, 0, common):
            common = part.start()
        return Said(place, text, ((min(common, first), end),), prompted=False)
    # Earlier turns are written otherwise than in the prompt, and the prompt is what is answered.
    before = content_of(chats[place - 1]).strip()
    opening = common_prefix(template.write(chats[:place], tools), prompt)
    since = max(0, prompt.rfind(before)) if before else opening
    for kept in reversed(range(opening, len(prompt) + 1)):
        asked = prompt[since:kept]
        if (at := text.rfind(asked, 0, first)) >= 0:
            break
    else:
        kept, at, asked = opening, first, ""
    return Said(
        place,
        text=prompt[:kept] + text[at + len(asked) : end],
        spans=((kept, kept + end - at - len(asked)),),
        prompted=kept == len(prompt),
    )


def _ended(template: ChatTemplate, prepared: Prepared, said: Said) -> Said:
    """Without the assistant's header, and with the marker that opens the next turn where the
    template writes none at the end of one: that is then what a model stops at, as GLM's does."""
    (start, end), text = said.spans[0], said.text
    header = template.opening
    if header.strip() and text.startswith(header, start):
        start += len(header)
    if not template.ends_turns:
        following = prepared.turns[said.place + 1 : said.place + 2]
        role = "tool" if "tool_calls" in prepared.chats[said.place] else "user"
        if following and following[0].role != "assistant":
            role = following[0].role
        text = text[:end] + template.opening_marker(role)
        end = len(text)
    ended = template.ended_at(text[:end], start) is not None
    return replace(said, text=text, spans=((start, end),), ended=ended)


def _in_whole(template: ChatTemplate, prepared: Prepared, place: int) -> Said:
    """The turn as it stands in the whole conversation, up to the first marker after it."""
    chats, text = prepared.chats, prepared.text
    varied = template.write(_varied(chats, place), prepared.tools)
    start = common_prefix(text, varied)
    after = common_prefix(text[start:][::-1], varied[start:][::-1])
    end = len(text) - after
    end = template.marker_after(text, end) or end
    return Said(place, text, ((start, end),), prompted=False)


def _first_word(
    template: ChatTemplate, chats: list[Chat], tools: list[Any] | None, text: str
) -> int:
    """Where the last turn's own words begin: where the text changes if they do."""
    return common_prefix(text, template.write(_varied(chats, len(chats) - 1), tools))


def _holds(text: str, chat: Chat) -> bool:
    """Whether a text holds what a message says."""
    content = content_of(chat).strip()
    return bool(content) and is_written(content, text)


def _varied(chats: Sequence[Chat], place: int) -> list[Chat]:
    """With other words in the mouth of the assistant."""
    chat = with_content(chats[place], SIGN if content_of(chats[place]) else "")
    if "reasoning_content" in chat:
        chat["reasoning_content"] = SIGN
    if "tool_calls" in chat:
        chat["tool_calls"] = [
            {**call, "function": {**call["function"], "name": SIGN}} for call in chat["tool_calls"]
        ]
    return [*chats[:place], chat, *chats[place + 1 :]]


def _marked(
    template: ChatTemplate, chats: list[Chat], prepared: Prepared, text: str
) -> tuple[Span, ...]:
    """What the template marks of the last turn."""
    before = 0
    if chats[1:]:
        try:
            history = template.write(chats[:-1], prepared.tools)
        except TemplateRefusal:
            history = ""
        before = common_prefix(history, text)
        if not history or any(_holds(history[before:], chat) for chat in chats[:-1]):
            before = _first_word(template, chats, prepared.tools, text)
    spans = template.generated(chats, prepared.tools)
    return _merged(span for span in spans if span[1] > before)


def _extended(template: ChatTemplate, made: Rendering, said: Said) -> Rendering | None:
    """`made` with one turn more, if its turns stand in the longer text as they are learnt."""
    if said.text.startswith(made.text[: made.turns[-1].end]):
        return Rendering(said.text, (*made.turns, said))
    # A text may end in a marker of its own after the turn's, as Phi-3's does.
    last = made.turns[-1]
    if (end := template.ended_at(made.text[: last.end], last.spans[-1][0])) is None:
        return None
    if template.marks_generation:
        end = len(made.text) - len(made.text[end:].lstrip())
    if not said.text.startswith(made.text[:end]):
        return None
    spans = tuple((left, min(right, end)) for left, right in last.spans if left < end)
    return Rendering(said.text, (*made.turns[:-1], replace(last, spans=spans), said))


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans that touch as one."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def oddities(chat: Chat, said: Said) -> set[str]:
    """What of a turn is not learnt, or not as it will be asked for."""
    reasoning = chat.get("reasoning_content", "")
    found = {
        NO_REASONING: not is_written(reasoning, said.learnt),
        OTHER_PROMPT: not said.prompted,
        NO_END: not said.ended,
    }
    return {name for name, odd in found.items() if odd}


def _require_said(chat: Chat, text: str) -> None:
    """Raise TemplateRefusal unless a text holds the answer and the tools that it calls."""
    content = content_of(chat)
    if not any(is_written(one, text) for one in (content, content.rpartition("</think>")[2])):
        raise TemplateRefusal("the template leaves out what the assistant says")
    if any(call["function"]["name"] not in text for call in chat.get("tool_calls", ())):
        raise TemplateRefusal("the template does not write every tool call")
