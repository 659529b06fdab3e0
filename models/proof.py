"""The proof, before training, that what is learnt is what the assistant says: on a sample.

Every letter and digit of a conversation is replaced by a sign of its own from Unicode's private
planes, and the template writes that. What comes out tells of each character of the real text which
message it is from, or that it is the template's. None of this knows how masks are made, so it can
judge them, token by token, in the examples that training would see.
"""

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.errors import TrainingError
from data_contracts.records import Message, Record, ToolCall
from models.chat import IGNORED, encode
from models.renderings import Rendering, renderings
from models.template import ChatTemplate, Dialogue, Prepared, TemplateRefusal, common_prefix

# Conversations of one kind that are looked at, and of all kinds.
OF_A_KIND, OF_ALL = 4, 60
FIRST_SIGN, LAST_SIGN = 0xF0000, 0x10FFEF
# Templates look for these in what people say.
KEPT = re.compile(r"<[^<>\s]{1,40}>|/(?:no_?)?think\b")
# Words of fewer characters are anybody's.
TELLING = 12

# A message and the place of a character in its content, -1 elsewhere in it; None is the template.
Origin = tuple[int, int] | None


@dataclass(frozen=True)
class Fault:
    """A counterexample: where it is and what is wrong there. It quotes nobody."""

    record: str
    message: int
    role: str
    what: str

    def __str__(self) -> str:
        return f"message {self.message + 1} ({self.role}) of conversation {self.record} {self.what}"


@dataclass(frozen=True)
class Proof:
    """Conversations and turns that were proven; `by_words` of these conversations hold words that
    the template treats, so that signs in their place say nothing: they were searched for words."""

    conversations: int
    turns: int
    by_words: int


def prove(template: ChatTemplate, records: Iterable[Record], *, base: str) -> Proof:
    """Prove the masks of a sample that holds each kind of conversation.

    Args:
        template: under the settings of the training.
        records: all that is to be learnt; those that the template refuses are passed over.
        base: the base model's id, for the message.

    Raises:
        TrainingError: with the first counterexample.
    """
    conversations = turns = by_words = 0
    for record in sample(records):
        try:
            masks = Masks(template, record)
        except TemplateRefusal:
            continue
        for fault in masks.faults():
            raise TrainingError(
                f"the chat template of {base} cannot be learnt from: {fault}",
                "set model.chat_template_kwargs, or use the template that the model was made with;"
                " see docs/models.md",
            )
        conversations += 1
        turns += len(masks.learnt)
        by_words += not masks.followed
    return Proof(conversations, turns, by_words)


def sample(records: Iterable[Record]) -> Iterator[Record]:
    """A few conversations of each kind: the roles in order, and what else they hold."""
    seen: Counter[Any] = Counter()
    for record in records:
        held = {
            (message.role, bool(message.tool_calls), message.reasoning is not None, message.learnt)
            for message in record.messages
        }
        roles = tuple(message.role for message in record.messages[:12])
        kind = (roles, frozenset(held), record.tools is not None)
        if seen[kind] < OF_A_KIND and seen.total() < OF_ALL:
            seen[kind] += 1
            yield record


class Masks:
    """What is learnt of one conversation, to be judged. Raises TemplateRefusal, as `encode`."""

    def __init__(self, template: ChatTemplate, record: Record) -> None:
        self.template, self.record = template, record
        self.prepared = template.prepare(record)
        self.renderings = renderings(template, self.prepared, lambda *_: True)
        self.examples, _ = encode(template, record.id, record, sys.maxsize)
        self.learnt = [turn.place for each in self.renderings for turn in each.turns]
        self.followed = True

    def faults(self) -> Iterator[Fault]:
        """What is wrong, the worst first."""
        yield from self._missing_turns()
        signs = Signs(self.template, self.record)
        found: set[Origin] = set()
        for rendering, example in zip(self.renderings, self.examples, strict=True):
            offsets = self.template.tokenizer(
                rendering.text, add_special_tokens=False, return_offsets_mapping=True
            )["offset_mapping"]
            kept = [
                (token, place)
                for token, place in zip(example.labels, offsets, strict=True)
                if token != IGNORED
            ]
            yield from self._misread(rendering, kept)
            origins = signs.origins(rendering)
            if origins is None:
                self.followed = False
                yield from self._foreign_words(rendering)
                yield from self._unspoken(rendering, kept)
                continue
            covered = {at for _, (left, right) in kept for at in range(left, right)}
            found |= {origins[at] for at in covered}
            yield from self._misplaced(rendering, origins, covered)
            yield from self._unspoken(rendering, kept)
        if self.followed and not self.template.marks_generation:
            yield from self._lost(signs, found)

    def _fault(self, message: int, what: str) -> Fault:
        return Fault(self.record.id, message, self.record.messages[message].role, what)

    def _missing_turns(self) -> Iterator[Fault]:
        if not self.template.marks_generation:  # which decides itself
            for place, turn in enumerate(self.prepared.turns):
                if turn.learnt and place not in self.learnt:
                    yield self._fault(turn.sources[-1], "is to be learnt and is not")

    def _misread(self, rendering: Rendering, kept: Sequence[tuple[int, Any]]) -> Iterator[Fault]:
        """Learnt tokens that decode to something else than the text that they are of."""
        for turn in rendering.turns:
            for start, end in turn.spans:
                own = [(token, place) for token, place in kept if start <= place[0] < end]
                said = self.template.tokenizer.decode([token for token, _ in own])
                if own and _plain(rendering.text[own[0][1][0] : own[-1][1][1]]) != _plain(said):
                    message = self.prepared.turns[turn.place].sources[-1]
                    yield self._fault(message, "decodes to something else than what is said")

    def _unspoken(self, rendering: Rendering, kept: Sequence[tuple[int, Any]]) -> Iterator[Fault]:
        """Learnt tokens of a turn that its prompt holds already, and an end that is not learnt."""
        if self.template.marks_generation:  # which decides itself
            return
        text = rendering.text
        for turn in rendering.turns:
            message = self.prepared.turns[turn.place].sources[-1]
            try:
                prompt = self.template.write(
                    self.prepared.chats[: turn.place], self.prepared.tools, prompt=True
                )
            except TemplateRefusal:
                prompt = ""
            given, (start, end) = common_prefix(prompt, text), turn.spans[0]
            own = [place for _, place in kept if start <= place[0] < end]
            if own and own[0][1] <= given:
                yield self._fault(message, "carries loss on what the template says before it")
            words = self.record.messages[message].content.strip()
            after = text.find(words, own[0][0] if own else 0) + len(words)
            marker = self.template.marker_after(text, after) if words in text else None
            if own and words and marker is not None and own[-1][1] < marker:
                yield self._fault(message, "has an end that is not learnt")

    def _misplaced(
        self, rendering: Rendering, origins: Sequence[Origin], covered: set[int]
    ) -> Iterator[Fault]:
        """What carries loss and is not to, and what is to and does not."""
        turns = [self.prepared.turns[turn.place] for turn in rendering.turns]
        own = {source for turn in turns for source in turn.sources}
        for at, origin in enumerate(origins):
            if origin is None:
                continue
            message, place = origin
            if at in covered and message not in own:
                yield self._fault(message, "is not to be learnt, and carries loss")
            decided = self.template.marks_generation  # by the template
            if at not in covered and message in own and place >= 0 and not decided:
                yield self._fault(message, "carries loss only in part")

    def _lost(self, signs: "Signs", found: set[Origin]) -> Iterator[Fault]:
        """Answers of which the template leaves out a part; thoughts before them it may."""
        for place in self.learnt:
            for message in self.prepared.turns[place].sources:
                content = self.record.messages[message].content
                answer = content.rpartition("</think>")[2]
                if any(
                    at >= len(content) - len(answer) and (message, at) not in found
                    for at in signs.places[message]
                ):
                    yield self._fault(message, "is left out in part by the template")

    def _foreign_words(self, rendering: Rendering) -> Iterator[Fault]:
        for turn in rendering.turns:
            sources = self.prepared.turns[turn.place].sources
            for place, message in enumerate(self.record.messages):
                words = message.content.strip()
                own = any(words in self.record.messages[source].content for source in sources)
                if len(words) >= TELLING and not own and words in turn.learnt:
                    yield self._fault(place, "is not to be learnt, and carries loss")


class Signs:
    """A conversation in signs, each of which stands for one letter or digit of one message.

    `places` are those of each message's content that have a sign.
    """

    def __init__(self, template: ChatTemplate, record: Record) -> None:
        self._template = template
        self._meaning: dict[str, tuple[str, Origin]] = {}
        self.places: list[list[int]] = []
        messages = [self._in_signs(at, message) for at, message in enumerate(record.messages)]
        self._prepared: Prepared | None = None
        try:
            if len(self._meaning) <= LAST_SIGN - FIRST_SIGN:
                self._prepared = template.prepare(Dialogue(messages, record.tools))
        except TemplateRefusal:
            return  # it looks at the words

    def origins(self, rendering: Rendering) -> list[Origin] | None:
        """The origin of each character; None where the template treats the words themselves."""
        if (prepared := self._prepared) is None:
            return None
        text, last = rendering.text, rendering.turns[-1].place
        for count in (len(prepared.turns), last + 1):
            whole, origins = self._read(prepared, count)
            shared = common_prefix(text, whole)
            rest = text[shared:].strip()
            if not rest or rest in self._template.markers:  # added to the end of the turn
                return [*origins[:shared], *[None] * (len(text) - shared)]
        prompt, before = self._read(prepared, last, prompt=True)
        shared = common_prefix(text, prompt)
        whole = whole.rstrip()
        if whole.endswith(text[shared:]):
            return [*before[:shared], *origins[shared - len(text) + len(whole) : len(whole)]]
        return None

    def _read(
        self, prepared: Prepared, count: int, *, prompt: bool = False
    ) -> tuple[str, list[Origin]]:
        """What the template writes of the first messages, or else of all, and from where."""
        try:
            written = self._template.write(prepared.chats[:count], prepared.tools, prompt=prompt)
        except TemplateRefusal:
            written = prepared.text
        meant = [self._meaning.get(sign, (sign, None)) for sign in written]
        return "".join(real for real, _ in meant), [origin for _, origin in meant]

    def _in_signs(self, at: int, message: Message) -> Message:
        self.places.append([])

        def content(place: int) -> Origin:
            self.places[at].append(place)
            return at, place

        def elsewhere(_: int) -> Origin:
            return at, -1

        def arguments(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: arguments(part) for name, part in value.items()}
            if isinstance(value, list):
                return [arguments(part) for part in value]
            return self._replaced(value, elsewhere) if isinstance(value, str) else value

        return message.model_copy(
            update={
                "content": self._replaced(message.content, content),
                "refusal": message.refusal and self._replaced(message.refusal, elsewhere),
                "reasoning": message.reasoning and self._replaced(message.reasoning, elsewhere),
                "tool_calls": tuple(_with(call, arguments) for call in message.tool_calls),
            }
        )

    def _replaced(self, text: str, origin: Callable[[int], Origin]) -> str:
        """With signs for letters and digits, but in what templates look for."""
        kept = {at for match in KEPT.finditer(text) for at in range(*match.span())}
        signs = []
        for at, real in enumerate(text):
            sign = real
            if real.isalnum() and at not in kept:
                sign = chr(min(FIRST_SIGN + len(self._meaning), LAST_SIGN + 1))
                self._meaning[sign] = (real, origin(at))
            signs.append(sign)
        return "".join(signs)


def _with(call: ToolCall, changed: Callable[[Any], Any]) -> ToolCall:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return call
    return call.model_copy(update={"arguments": json.dumps(changed(arguments), ensure_ascii=False)})


def _plain(text: str) -> str:
    """Letters alone: tokenizers may normalise what they read, and write spaces otherwise."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if not character.isspace())
