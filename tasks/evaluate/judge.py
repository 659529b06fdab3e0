"""A language model as judge: which of two answers is better, asked in both orders.

Any endpoint that speaks OpenAI's chat completions. It is sent scrubbed questions and answers; the
key is read from OPENAI_API_KEY.
"""

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import ModelError
from tasks.evaluate.measures import Measure, Measures, Sample
from tasks.stage import stage_task

KEY = "OPENAI_API_KEY"
# Seconds before each attempt.
WAITS = (0.0, 1.0, 4.0)
ASKED_AT_ONCE = 4
# Asking again may help; with other errors of 400 to 499 it does not.
BUSY = (408, 409, 425, 429)

INSTRUCTION = (
    "You compare two answers to a user's message. Judge how helpful, correct and fitting each is."
    " Which comes first, and which is longer, must not matter. Reply with one word: A, B or TIE."
)
QUESTION = "[Message]\n{prompt}\n\n[Answer A]\n{first}\n\n[Answer B]\n{second}\n\nA, B or TIE?"

# In favour of the answer shown first.
POINTS = {"a": 1.0, "b": -1.0, "tie": 0.0}


class JudgeSettings(BaseModel):
    """An optional judge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="`https://HOST/v1` of an OpenAI-compatible endpoint; none, no judge.",
    )
    model: str = Field(default="gpt-4o-mini", description="The model that judges.")
    items: int = Field(default=40, ge=1, description="Held-out conversations judged, at most.")
    seconds: float = Field(default=60, gt=0, description="Time limit of one question.")


def preferred(
    settings: JudgeSettings, challenger: Sequence[Sample], bar: Sequence[Sample]
) -> Measures:
    """Of each conversation that both answered: 1 if the judge prefers the challenger's answer in
    both orders, -1 if the bar's, 0.5 and -0.5 if in one order only, 0 if it follows the order.

    Raises:
        ModelError: the endpoint cannot be reached, or does not answer the question.
    """
    theirs = {sample.id: sample for sample in bar}
    pairs = [(mine, theirs[mine.id]) for mine in challenger if mine.id in theirs][: settings.items]
    key = os.environ.get(KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        httpx.Client(
            base_url=settings.url or "", headers=headers, timeout=settings.seconds
        ) as client,
        ThreadPoolExecutor(ASKED_AT_ONCE) as pool,
    ):

        def points(shown: tuple[Sample, Sample]) -> float:
            first, second = shown
            return _ask(client, settings, first.asked, first.answer, second.answer)

        # One map, so that the first failure leaves the rest unasked.
        orders = [order for mine, other in pairs for order in ((mine, other), (other, mine))]
        found = list(pool.map(points, orders))
    return tuple(
        Measure(id=mine.id, total=(one - other) / 2)
        for (mine, _), one, other in zip(pairs, found[::2], found[1::2], strict=True)
    )


def _ask(
    client: httpx.Client, settings: JudgeSettings, prompt: str, first: str, second: str
) -> float:
    body = {
        "model": settings.model,
        "temperature": 0,
        "max_tokens": 8,
        "messages": [
            {"role": "system", "content": INSTRUCTION},
            {
                "role": "user",
                "content": QUESTION.format(prompt=prompt, first=first, second=second),
            },
        ],
    }
    problem, transient = "", True
    for wait in WAITS:
        time.sleep(wait)
        try:
            response = client.post("chat/completions", json=body)
            response.raise_for_status()
            said = str(response.json()["choices"][0]["message"]["content"])
        except httpx.HTTPStatusError as error:
            problem = f"HTTP {error.response.status_code}"
            if error.response.is_client_error and error.response.status_code not in BUSY:
                transient = False
                break
            continue
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            problem = type(error).__name__
            continue
        if (better := _read(said)) is not None:
            return POINTS[better]
        problem = "it said neither A, B nor TIE"
    raise ModelError(
        f"the judge {settings.model} could not be asked ({problem})",
        "check evaluate.judge.url and OPENAI_API_KEY, or unset evaluate.judge.url",
        transient=transient,
    )


def _read(said: str) -> str | None:
    """`a`, `b` or `tie`; None if it names none of them, or both answers."""
    if (alone := said.strip(" \n.*\"'`()[]").casefold()) in POINTS:
        return alone
    # In a sentence "a" is a word: only capitals count.
    named = set(re.findall(r"\b(A|B|TIE|Tie|tie)\b", said))
    if named & {"TIE", "Tie", "tie"}:
        return "tie"
    return named.pop().casefold() if len(named) == 1 else None


@stage_task(
    "judge",
    produces="models/preferences",
    description="Which answers a language model prefers.",
    retries=2,
)
def judge_task(
    settings: JudgeSettings, challenger: tuple[Sample, ...], bar: tuple[Sample, ...]
) -> Measures:
    return preferred(settings, challenger, bar)
