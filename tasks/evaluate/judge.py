"""A language model as judge: which of two answers is better, asked in both orders.

Any endpoint that speaks OpenAI's chat completions. What it is sent is scrubbed by the policy in
force, answers too: a model may say what no scrub has seen. It travels encrypted, or not at all
beyond this machine.
"""

import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import httpx
from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_contracts.errors import ModelError, RowRejected
from data_contracts.policy import ScrubPolicy
from data_contracts.records import Message, Record
from tasks.evaluate.measures import Measure, Measures, Sample
from tasks.scrub import BuiltDetector
from tasks.scrub.records import scrub_records
from tasks.scrub.replace import secret_key
from tasks.scrub.workers import WorkerSettings, searching
from tasks.secrets import Secret
from tasks.stage import stage_task

_log = logging.getLogger(__name__)

# A message, and two answers to it.
Triple: TypeAlias = tuple[str, str, str]
# Each triple without personal data; None where it cannot be scrubbed.
Scrub: TypeAlias = Callable[[Sequence[Triple]], Sequence[Triple | None]]

KEY = "OPENAI_API_KEY"
# Seconds before each attempt.
WAITS = (0.0, 1.0, 4.0)
ASKED_AT_ONCE = 4
# Asking again may help; with redirects and other errors of 400 to 499 it does not.
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
        description="`https://HOST/v1` of an OpenAI-compatible endpoint; none, no judge. `http://`"
        " on this machine only.",
    )
    key: Secret | None = Field(
        default=None, description="The endpoint's API key; default the variable OPENAI_API_KEY."
    )
    model: str = Field(default="gpt-4o-mini", description="The model that judges.")
    items: int = Field(default=40, ge=1, description="Held-out conversations judged, at most.")
    seconds: float = Field(default=60, gt=0, description="Time limit of one question.")

    @field_validator("url")
    @classmethod
    def _is_private(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError("must be a URL: https://HOST/v1") from None
        if parsed.userinfo:
            raise ValueError("must not hold a password; evaluate.judge.key is for that")
        if not (parsed.host and (parsed.scheme == "https" or _is_local(parsed))):
            raise ValueError(
                "must begin with https://, as conversations are sent there; http:// is for"
                " localhost, 127.0.0.1 and [::1]"
            )
        return url


def _is_local(url: httpx.URL) -> bool:
    """Whether it is plain HTTP that does not leave this machine."""
    if url.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def preferred(
    settings: JudgeSettings, challenger: Sequence[Sample], bar: Sequence[Sample], scrub: Scrub
) -> Measures:
    """Of each conversation that both answered: 1 if the judge prefers the challenger's answer in
    both orders, -1 if the bar's, 0.5 and -0.5 if in one order only, 0 if it follows the order.
    What cannot be scrubbed is not sent, and said.

    Raises:
        ModelError: the endpoint cannot be reached, or does not answer the question.
        ConfigError: the key cannot be read where the setting says.
    """
    theirs = {sample.id: sample.answer for sample in bar}
    both = [mine for mine in challenger if mine.id in theirs][: settings.items]
    clean = scrub([(mine.asked, mine.answer, theirs[mine.id]) for mine in both])
    shown = {mine.id: one for mine, one in zip(both, clean, strict=True) if one is not None}
    if unsent := len(both) - len(shown):
        _log.warning("%d conversations cannot be scrubbed and are not shown to the judge", unsent)
    with _client(settings) as client, ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        # One map, so that the first failure leaves the rest unasked.
        orders = [
            order
            for asked, mine, other in shown.values()
            for order in ((asked, mine, other), (asked, other, mine))
        ]
        found = list(pool.map(lambda order: _ask(client, settings, *order), orders))
    return tuple(
        Measure(id=identifier, total=(one - other) / 2)
        for identifier, one, other in zip(shown, found[::2], found[1::2], strict=True)
    )


def _client(settings: JudgeSettings) -> httpx.Client:
    url = httpx.URL(settings.url or "")
    key = settings.key.reveal("evaluate.judge.key") if settings.key else os.environ.get(KEY)
    return httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=settings.seconds,
        # Wherever else it would go, nobody has looked whether that is encrypted.
        follow_redirects=False,
        # A proxy that the environment names would be another machine.
        trust_env=not _is_local(url),
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
            if not error.response.is_server_error and error.response.status_code not in BUSY:
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
        "check evaluate.judge.url and its key, or unset evaluate.judge.url",
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


def scrubbed_by(policy: ScrubPolicy, detector: BuiltDetector | None) -> Scrub:
    """The scrub of the policy, with the same replacement of a name in message and answers."""

    def scrub(triples: Sequence[Triple]) -> list[Triple | None]:
        records = [
            Record(
                id=str(place),
                source="judge",
                messages=tuple(
                    Message(role=role, content=text)
                    for role, text in zip(("user", "assistant", "assistant"), triple, strict=True)
                ),
            )
            for place, triple in enumerate(triples)
        ]
        with searching(policy, detector, WorkerSettings(count=0)) as search:
            found = [clean for _, clean in scrub_records(records, search, secret_key(policy))]
        return [None if isinstance(one, RowRejected) else _triple(one) for one in found]

    return scrub


def _triple(record: Record) -> Triple:
    asked, first, second = (message.content for message in record.messages)
    return asked, first, second


@stage_task(
    "judge",
    produces="models/preferences",
    description="Which answers a language model prefers.",
    retries=2,
)
def judge_task(
    settings: JudgeSettings,
    challenger: tuple[Sample, ...],
    bar: tuple[Sample, ...],
    policy: ScrubPolicy,
    detector: BuiltDetector | None,
    key: str | None,  # noqa: ARG001 - its fingerprint: with another key other texts are shown
) -> Measures:
    return preferred(settings, challenger, bar, scrubbed_by(policy, detector))
