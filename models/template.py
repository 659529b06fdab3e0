"""A model's chat template: one way to write conversations, for training, evaluation and generation.

Templates differ in what they take. `ChatTemplate.prepare` adapts a conversation as little as the
template makes necessary, in this order:

1. as it is;
2. with the developer role as `system`, where the template does not write developer messages;
3. with system and developer text in front of the next user turn, a blank line between them
   (`model.fold_system`), where the template writes neither role;
4. with neighbouring turns of one role joined by a blank line, where turns must alternate;
5. with tool call ids of nine letters and digits, where the template takes no others.

What a template refuses or leaves out even so is a `TemplateRefusal` with the reason. It is never
trained on in part.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from jinja2 import TemplateError

from data_contracts.errors import ModelError
from data_contracts.records import Message
from models.base import Base, load_tokenizer

Chat = dict[str, Any]
SYSTEM_ROLES = ("system", "developer")
# How a conversation was adapted to a template, or what of it the template left out.
DEVELOPER_AS_SYSTEM = "developer messages written as system messages"
FOLDED = "system text put into a user turn"
JOINED = "neighbouring turns of one role joined"
SHORT_IDS = "tool call ids shortened"
NO_TOOLS = "offered tools left out by the template"
NOT_ALL_WRITTEN = "earlier messages left out or changed by the template"
NO_REASONING = "reasoning left out by the template"
OTHER_PROMPT = "answered after another beginning than the template prompts with"
NO_END = "no marker at the end of the assistant's turn"
# Not in any text: where it comes out, what it stands for is written.
SIGN = "\U0010fff0"
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What templates raise on conversations that they were not written for.
FAILURES = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)


class TemplateRefusal(ModelError):
    """A chat template that does not take a conversation. `reason` holds no text of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the model's chat template does not take this conversation: {reason}",
            "see docs/models.md for what is adapted, or leave such conversations out",
        )
        self.reason = reason


class Conversation(Protocol):
    """What a template writes: a `Record` is one."""

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def tools(self) -> str | None: ...


@dataclass(frozen=True)
class Dialogue:
    """A conversation without a name; `tools` is the JSON text of the functions offered."""

    messages: Sequence[Message]
    tools: str | None = None


@dataclass(frozen=True)
class Turn:
    """One message as the template takes it, and the messages of the conversation that it holds."""

    chat: Chat
    learnt: bool
    sources: tuple[int, ...]

    @property
    def role(self) -> str:
        return str(self.chat["role"])


@dataclass(frozen=True)
class Prepared:
    """A conversation that the template takes, `text` as it writes the whole of it."""

    turns: tuple[Turn, ...]
    tools: list[Any] | None
    text: str = ""
    changes: frozenset[str] = field(default_factory=frozenset)

    @property
    def chats(self) -> list[Chat]:
        return [turn.chat for turn in self.turns]


class ChatTemplate:
    """A tokenizer with the settings under which its chat template is used.

    Args:
        tokenizer: transformers' fast tokenizer.
        settings: variables that the template is given (`model.chat_template_kwargs`).
        fold_system: whether system text may go into a user turn.
    """

    def __init__(
        self,
        tokenizer: Any,
        settings: Mapping[str, Any] | None = None,
        *,
        fold_system: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.settings = dict(settings or {})
        self.fold_system = fold_system
        self._opening_markers: dict[str, str] = {}
        self._roles: dict[tuple[str, bool], bool] = {}

    # -- writing ---------------------------------------------------------------------

    def write(
        self, chats: Sequence[Chat], tools: list[Any] | None = None, *, prompt: bool = False
    ) -> str:
        """The template's text; with `prompt`, ending where the assistant starts to speak.

        Raises:
            TemplateRefusal: the template raised an error.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(chats),
                tools=tools,
                tokenize=False,
                add_generation_prompt=prompt,
                **self.settings,
            )
        except FAILURES as error:
            raise TemplateRefusal(_first_line(error)) from error
        return text

    def write_prompt(self, conversation: Conversation) -> str:
        """What the assistant is given to answer. Raises TemplateRefusal."""
        return self.prepare(conversation, prompt=True).text

    def takes(self, prompt: Conversation) -> bool:
        """Whether the assistant can be asked to answer there."""
        try:
            self.write_prompt(prompt)
        except TemplateRefusal:
            return False
        return True

    def read_answer(self, ids: Sequence[int]) -> str:
        """The text of generated tokens: what is said to the user, without reasoning."""
        said: str = self.tokenizer.decode(ids, skip_special_tokens=False)
        if self.answer_header and self.answer_header in said:
            said = said.rpartition(self.answer_header)[2]
            ids = self.tokenizer(said, add_special_tokens=False)["input_ids"]
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

    def generated(self, chats: Sequence[Chat], tools: list[Any] | None) -> list[tuple[int, int]]:
        """Characters [start, end) within the template's own `{% generation %}` blocks."""
        from transformers.utils.chat_template_utils import render_jinja_template

        _, spans = render_jinja_template(
            [[{k: v for k, v in chat.items() if v is not None} for chat in chats]],
            tools=tools,
            chat_template=self.source(tools),
            return_assistant_tokens_mask=True,
            **{**self.tokenizer.special_tokens_map, **self.settings},
        )
        return [(start, end) for start, end in spans[0] if start < end]

    def source(self, tools: list[Any] | None = None) -> str:
        text: str = self.tokenizer.get_chat_template(None, tools)
        return text

    @cached_property
    def marks_generation(self) -> bool:
        """Whether the template says itself what the assistant says."""
        return GENERATION.search(self.source()) is not None

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """The tokenizer's added tokens, which can end a turn; the longest first."""
        return tuple(sorted(map(str, self.tokenizer.get_added_vocab()), key=len, reverse=True))

    def ended_at(self, text: str, start: int) -> int | None:
        """Where the first of the markers ends with which `text`, from `start` on, ends."""
        first, end = None, len(text.rstrip())
        while end > start and text.endswith(self.markers, start, end):
            marker = next(one for one in self.markers if text.endswith(one, start, end))
            first, end = end, len(text[: end - len(marker)].rstrip())
        return first

    def marker_after(self, text: str, at: int) -> int | None:
        """Where a marker ends that follows there, after white space perhaps."""
        start = len(text) - len(text[at:].lstrip())
        if not text.startswith(self.markers, start):
            return None
        return start + len(next(one for one in self.markers if text.startswith(one, start)))

    @cached_property
    def opening(self) -> str:
        """What the template writes where the assistant starts to speak."""
        asked = self._shown([{"role": "user", "content": "Hello"}])
        try:
            before, prompt = self.write(asked), self.write(asked, prompt=True)
        except TemplateRefusal:
            return ""
        return prompt[common_prefix(before, prompt) :]

    @cached_property
    def ends_turns(self) -> bool:
        """Whether a marker follows what the assistant says even where nothing comes after it."""
        said = self.write(self._shown(_plain_probe()))
        return self.marker_after(said, said.find(SIGN) + len(SIGN)) is not None

    def opening_marker(self, role: str) -> str:
        """The marker, and the white space before it, that opens a turn after the assistant's; empty
        where there is none."""
        if role not in self._opening_markers:
            self._opening_markers[role] = self._find_opening_marker(role)
        return self._opening_markers[role]

    def _find_opening_marker(self, role: str) -> str:
        chats = _tool_call_probe(text=bool(self.calls_in_text))[:2] if role == "tool" else []
        chats = chats or _plain_probe()
        following = {"role": role, "content": "Found.", "tool_call_id": "call00001"}
        shown = self._shown([*chats, following])
        try:
            text, longer = self.write(shown[:-1], [_TOOL]), self.write(shown, [_TOOL])
        except TemplateRefusal:
            return ""
        end = len(text.rstrip())
        marker = self.marker_after(longer, end)
        return longer[end:marker] if marker and longer.startswith(text[:end]) else ""

    # -- what the template takes -----------------------------------------------------

    @cached_property
    def content_in_parts(self) -> bool:
        """Whether content is written only as `[{"type": "text", "text": ...}]`."""
        asked = [{"role": "user", "content": SIGN}]
        return not self._writes(asked) and self._writes(in_parts(asked))

    def _shown(self, chats: Sequence[Chat]) -> list[Chat]:
        """Messages with their content as the template takes it."""
        return in_parts(chats) if self.content_in_parts else list(chats)

    @cached_property
    def calls_in_text(self) -> bool | None:
        """Whether arguments of tool calls are given as JSON text, not as objects; None where the
        template does not write tool calls."""
        for text in (False, True):
            try:
                said = self.write(self._shown(_tool_call_probe(text=text)), [_TOOL])
            except TemplateRefusal:
                continue
            # An object's repr, or JSON text quoted once more, is no call that could be read back.
            broken = "{'place'" in said or '\\"place\\"' in said
            if "look_up" in said and "Vexholm" in said and not broken:
                return text
        return None

    @cached_property
    def answer_header(self) -> str:
        """What stands between reasoning, or the generation prompt, and the answer's first word."""
        *asked, answer = self._shown(_plain_probe())
        try:
            prompt = self.write(asked, prompt=True)
            plain = self.write([*asked, answer])
            reasoned = self.write([*asked, {**answer, "reasoning_content": SIGN}])
        except TemplateRefusal:
            return ""
        before = plain[common_prefix(prompt, plain) : plain.find(SIGN)].strip()
        _, _, after = reasoned.partition(SIGN)
        between = after[: after.find(SIGN)].strip() if SIGN in after else ""
        shared = common_prefix(before[::-1], between[::-1])
        return between[len(between) - shared :].strip() or between or before

    def _writes_role(self, role: str, *, first: bool) -> bool:
        """Whether messages of a role are written, at the beginning or later."""
        key = (role, first)
        if key not in self._roles:
            message = {"role": role, "content": SIGN}
            hello = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
            if role == "tool":
                calls = _tool_call_probe(text=bool(self.calls_in_text))
                asked = [*calls[:2], {**calls[2], "content": SIGN}, calls[3]]
            elif role == "user":
                asked = [message]
            else:
                asked = [message, *hello] if first else [*hello, message, *hello]
            self._roles[key] = self._writes(self._shown(asked))
        return self._roles[key]

    def _holds_all(self, turns: Sequence[Turn], text: str) -> bool:
        """Whether the template wrote what everybody but the assistant says; what is learnt of the
        assistant's own words is looked at where it is.

        Raises:
            TemplateRefusal: it never writes what some of them say, or a call is missing.
        """
        whole = True
        for place, turn in enumerate(turns):
            for call in turn.chat.get("tool_calls", ()):
                if call["function"]["name"] not in text:
                    raise TemplateRefusal("the template does not write every tool call")
            if turn.role != "assistant" and not is_written(turn.chat["content"], text):
                if not self._writes_role(turn.role, first=place == 0):
                    raise TemplateRefusal(f"the template does not write {turn.role} messages")
                whole = False
        return whole

    def _writes(self, chats: Sequence[Chat], *, prompt: bool = False) -> bool:
        try:
            return SIGN in self.write(chats, prompt=prompt)
        except TemplateRefusal:
            return False

    # -- adapting --------------------------------------------------------------------

    def prepare(self, conversation: Conversation, *, prompt: bool = False) -> Prepared:
        """The conversation as the template takes it.

        Raises:
            TemplateRefusal: it takes it in no form, or leaves out some of what it says.
        """
        tools = json.loads(conversation.tools) if conversation.tools else None
        turns = tuple(self._turns(conversation.messages))
        refusals: list[TemplateRefusal] = []
        for changed, changes in self._forms(turns):
            shown = self._shown([turn.chat for turn in changed])
            changed = tuple(
                replace(turn, chat=chat) for turn, chat in zip(changed, shown, strict=True)
            )
            try:
                text = self.write([turn.chat for turn in changed], tools, prompt=prompt)
                if not self._holds_all(turns, text):
                    changes = changes | {NOT_ALL_WRITTEN}
            except TemplateRefusal as refusal:
                refusals.append(refusal)
                continue
            if tools and not any(_name_of(tool) in text for tool in tools):
                changes = changes | {NO_TOOLS}
            return Prepared(changed, tools, text, changes)
        raise refusals[-1]  # of the form that is adapted most: what no adapting mends

    def _turns(self, messages: Sequence[Message]) -> Iterator[Turn]:
        if not messages:
            raise TemplateRefusal("it has no messages")
        for place, message in enumerate(messages):
            chat = message.as_chat()
            if message.tool_calls:
                if self.calls_in_text is None:
                    raise TemplateRefusal("the template does not write tool calls")
                if not self.calls_in_text:
                    chat["tool_calls"] = _with_objects(chat["tool_calls"])
            yield Turn(chat, message.role == "assistant" and message.learnt, (place,))

    def _forms(self, turns: tuple[Turn, ...]) -> Iterator[tuple[tuple[Turn, ...], frozenset[str]]]:
        """The turns as they are, then in the forms that templates may need, least changed first."""
        roles: list[tuple[str, Callable[[tuple[Turn, ...]], tuple[Turn, ...]]]] = [
            ("", lambda turns: turns),
            (DEVELOPER_AS_SYSTEM, _developer_as_system),
        ]
        if self.fold_system:
            roles.append((FOLDED, _fold_system))
        tried: list[tuple[Turn, ...]] = []
        for joined, short, (name, change) in itertools.product((False, True), (False, True), roles):
            changed = change(turns)
            names = {name} if changed != turns and name else set()
            if joined and (merged := _join_neighbours(changed)) != changed:
                changed, names = merged, names | {JOINED}
            if short and (renamed := _with_short_ids(changed)) != changed:
                changed, names = renamed, names | {SHORT_IDS}
            if changed not in tried:
                tried.append(changed)
                yield changed, frozenset(names)


def load_template(base: Base) -> ChatTemplate:
    """The base's chat template under its settings. Raises ModelError as `load_tokenizer`."""
    return ChatTemplate(
        load_tokenizer(base), base.chat_template_kwargs, fold_system=base.fold_system
    )


def in_parts(chats: Iterable[Chat]) -> list[Chat]:
    """With content as a list of parts, as templates of multimodal models may ask for it."""
    return [{**chat, "content": [{"type": "text", "text": chat["content"]}]} for chat in chats]


def content_of(chat: Chat) -> str:
    """The text of a message, in parts or not."""
    content = chat["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def with_content(chat: Chat, text: str) -> Chat:
    """The message with another text, in parts if its own is."""
    parts = not isinstance(chat["content"], str)
    return {**chat, "content": [{"type": "text", "text": text}] if parts else text}


def common_prefix(one: str, other: str) -> int:
    """How many characters the two begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _developer_as_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return tuple(
        replace(turn, chat={**turn.chat, "role": "system"}) if turn.role == "developer" else turn
        for turn in turns
    )


def _fold_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """System text in front of the next user turn, or after the last where none follows."""
    folded: list[Turn] = []
    waiting: list[Turn] = []
    for turn in turns:
        if turn.role in SYSTEM_ROLES:
            waiting.append(turn)
        elif turn.role == "user" and waiting:
            folded.append(_joined([*waiting, turn], "user"))
            waiting = []
        else:
            folded.append(turn)
    users = [place for place, turn in enumerate(folded) if turn.role == "user"]
    if waiting and users:
        folded[users[-1]] = _joined([folded[users[-1]], *waiting], "user")
    return tuple(folded) if users else turns


def _join_neighbours(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Neighbours of one role as one turn; not where one is learnt and the other is not, nor where
    they call tools."""
    joined: list[Turn] = []
    for turn in turns:
        last = joined[-1] if joined else None
        plain = last is not None and not (
            {"tool_calls", "tool_call_id", "reasoning_content"} & {*turn.chat, *last.chat}
        )
        if last is not None and plain and (last.role, last.learnt) == (turn.role, turn.learnt):
            joined[-1] = _joined([last, turn], turn.role)
        else:
            joined.append(turn)
    return tuple(joined)


def _joined(turns: Sequence[Turn], role: str) -> Turn:
    content = "\n\n".join(turn.chat["content"] for turn in turns if turn.chat["content"])
    return Turn(
        {**turns[-1].chat, "role": role, "content": content},
        turns[-1].learnt,
        tuple(itertools.chain.from_iterable(turn.sources for turn in turns)),
    )


def _with_short_ids(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Ids of tool calls as Mistral's templates ask for them: nine letters and digits."""

    def short(identifier: Any) -> str:
        return hashlib.sha256(str(identifier).encode()).hexdigest()[:9]

    def renamed(chat: Chat) -> Chat:
        chat = dict(chat)
        if "tool_calls" in chat:
            chat["tool_calls"] = [{**call, "id": short(call["id"])} for call in chat["tool_calls"]]
        if "tool_call_id" in chat:
            chat["tool_call_id"] = short(chat["tool_call_id"])
        return chat

    return tuple(replace(turn, chat=renamed(turn.chat)) for turn in turns)


def _with_objects(calls: list[Chat]) -> list[Chat]:
    changed = []
    for call in calls:
        function = call["function"]
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise TemplateRefusal("the arguments of a tool call are no JSON object")
        changed.append({**call, "function": {**function, "arguments": arguments}})
    return changed


def is_written(content: str, text: str) -> bool:
    """Whether a template's text holds `content`: trimmed, quoted as JSON, or in other spacing."""
    if content.strip() in text:
        return True
    quoted = json.dumps(content.strip(), ensure_ascii=False)[1:-1]
    return quoted in text or all(word in text for word in content.split())


def _name_of(tool: Any) -> str:
    if not isinstance(tool, dict):
        return str(tool)
    return str((tool.get("function") or tool).get("name", ""))


def _first_line(error: BaseException) -> str:
    """Why a template raised: its own words, or the kind of error, which may quote the text."""
    if isinstance(error, TemplateError) and str(error).strip():
        return str(error).strip().splitlines()[0][:160].rstrip(".")
    return f"the template fails on it ({type(error).__name__})"


_TOOL: Chat = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a place up.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "Which place."}},
            "required": ["place"],
        },
    },
}


def _plain_probe() -> list[Chat]:
    return [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": SIGN}]


def _tool_call_probe(*, text: bool) -> list[Chat]:
    arguments = {"place": "Vexholm"}
    function = {"name": "look_up", "arguments": json.dumps(arguments) if text else arguments}
    call = {"id": "call00001", "type": "function", "function": function}
    return [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Found.", "tool_call_id": "call00001", "name": "look_up"},
        {"role": "assistant", "content": "It is there."},
    ]
