"""A record is one conversation in OpenAI chat message format.

`data_contracts.formats` turns source rows into records. What a *valid* conversation is (lengths,
who speaks) is the contract's business.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import Json, digest_json

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

Text = Annotated[str, Field(strict=True)]
# Why a model stopped; `interrupted` is a stream that broke off without saying why.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "interrupted"]


class ToolCall(BaseModel):
    """A call of a function by the assistant; `arguments` is JSON text, as the model wrote it."""

    model_config = ConfigDict(frozen=True)

    id: Text | None = None
    name: Text
    arguments: Text


class Message(BaseModel):
    """One turn, with all that the OpenAI chat format says of it.

    `content` is empty where the assistant only calls tools. `reasoning` is what it thought before
    it answered. `learnt` is False for an assistant's turn that the source excludes from training
    (`weight: 0`, the undesirable side of a preference, and the like).
    """

    model_config = ConfigDict(frozen=True)

    role: Text
    content: Text = ""
    name: Text | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: Text | None = None
    reasoning: Text | None = None
    refusal: Text | None = None
    learnt: bool = True

    def as_chat(self) -> dict[str, Any]:
        """The message as chat templates and OpenAI's API take it, without what it lacks."""
        chat: dict[str, Any] = {"role": self.role, "content": self.content or self.refusal or ""}
        if self.name is not None:
            chat["name"] = self.name
        if self.tool_calls:
            chat["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            chat["tool_call_id"] = self.tool_call_id
        if self.reasoning is not None:
            chat["reasoning_content"] = self.reasoning
        return chat

    @property
    def text(self) -> str:
        """What is said and called, in words: what people compare turns by."""
        calls = (f"{call.name}({call.arguments})" for call in self.tool_calls)
        return "\n".join(part for part in (self.content or self.refusal or "", *calls) if part)

    @property
    def identity(self) -> Json:
        """What was said, for digests: [role, content] of a message that says no more."""
        more = self.model_dump(mode="json", exclude_defaults=True, exclude={"role", "content"})
        return [self.role, self.content, *([more] if more else [])]


class LabelledSpan(BaseModel):
    """Where a source says personal data stands: characters [start, end) of message `turn`."""

    model_config = ConfigDict(frozen=True)

    turn: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(gt=0)
    entity: Text


class Served(BaseModel):
    """How a logged answer, the last message of its record, came about and what was thought of it.

    `feedback` is a score, higher is better (a thumb up is 1, a thumb down 0);
    `correction` is what should have been answered. `user` is the pseudonym of who asked
    (`data_contracts.log_users`), kept in a window of this home and nowhere else.
    """

    model_config = ConfigDict(frozen=True)

    workload: Text | None = None
    model_version: Text | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    feedback: float | None = None
    correction: Text | None = None
    user: Text | None = None
    finish_reason: FinishReason | None = None


class Record(BaseModel):
    """One conversation. `created_at` is UTC in ISO 8601; `source` names where it came from;
    `served` is there if it was read from an inference log. `tools` is the JSON text of the
    functions offered, a list in OpenAI's form. `rejected` is the end of the conversation that
    people liked less, where the source is a preference pair: kept, never learnt. `desirable` and
    `rating` are what people said of the whole answer."""

    model_config = ConfigDict(frozen=True)

    id: Text
    messages: tuple[Message, ...]
    created_at: Text | None = None
    source: Text
    labelled_spans: tuple[LabelledSpan, ...] = ()
    served: Served | None = None
    tools: Text | None = None
    parallel_tool_calls: bool | None = None
    rejected: tuple[Message, ...] = ()
    desirable: bool | None = None
    rating: float | None = None

    @property
    def content_digest(self) -> str:
        """Digest of who says what, in order: equal for exact duplicates whatever their ids."""
        said = [message.identity for message in self.messages]
        offered: dict[str, Json] = {
            "tools": self.tools,
            "parallel_tool_calls": self.parallel_tool_calls,
            "rejected": [message.identity for message in self.rejected] or None,
        }
        more = {name: value for name, value in offered.items() if value is not None}
        return digest_json([said, more] if more else said)

    @property
    def text(self) -> str:
        return "\n".join(message.text for message in self.messages)

    @property
    def teaches(self) -> bool:
        """Whether there is an answer to learn in it."""
        return any(message.role == "assistant" and message.learnt for message in self.messages)
