"""What every log format says of one exchange: what was asked, what was answered, and how it went.

Messages are turns of any form that `data_contracts.formats` reads. All values stand as the log
has them: nothing is checked yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked."""

    messages: list[Any]
    model: Any = None
    tools: Any = None
    parallel_tool_calls: Any = None


@dataclass(frozen=True)
class Usage:
    prompt_tokens: Any = None
    completion_tokens: Any = None

    def or_else(self, other: "Usage") -> "Usage":
        """With `other`'s numbers where this one has none."""
        return Usage(
            other.prompt_tokens if self.prompt_tokens is None else self.prompt_tokens,
            other.completion_tokens if self.completion_tokens is None else self.completion_tokens,
        )


@dataclass(frozen=True)
class Answer:
    """What was answered.

    `interrupted`: a stream that ended without saying why. `other_choices` were answered as well
    (`n > 1`) and are not used.
    """

    message: Mapping[str, Any]
    finish_reason: Any = None
    interrupted: bool = False
    id: Any = None
    model: Any = None
    created: Any = None
    usage: Usage = Usage()
    other_choices: int = 0


@dataclass(frozen=True)
class Exchange:
    """One exchange and what a log says beside it.

    `times`, `ids` and `models` are candidates, the best first.
    """

    request: Request
    answer: Answer
    times: tuple[Any, ...]
    ids: tuple[Any, ...] = ()
    models: tuple[Any, ...] = ()
    workload: Any = None
    usage: Usage = Usage()
    latency_ms: Any = None
    feedback: Any = None
    correction: Any = None
