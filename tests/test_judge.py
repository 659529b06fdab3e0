"""The judge, asked over HTTP by a server that speaks chat completions."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.errors import ConfigError, ModelError
from data_contracts.policy import load_policy
from data_contracts.records import Message
from flows.settings import load_settings
from tasks.evaluate import judge
from tasks.evaluate.judge import JudgeSettings, preferred, scrubbed_by
from tasks.evaluate.measures import Sample

SHOWN = re.compile(r"\[Message\]\n(.*)\n\n\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n\nA, B", re.S)

# Of (message, first answer, second answer): what is said.
Says = Callable[[str, str, str], str]


class Endpoint:
    """An endpoint, what it was sent, and the statuses that it answers with before it says."""

    def __init__(self) -> None:
        self.says: Says = lambda *_: "TIE"
        self.failures: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.paths: list[str] = []
        self.url = ""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(judge, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.delenv(judge.KEY, raising=False)
    made = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.bodies.append(body)
            made.headers.append(self.headers["Authorization"])
            status = made.failures.pop() if made.failures else 200
            made.paths.append(self.path)
            if self.path != "/v1/chat/completions":
                status = 404
            found = SHOWN.search(body["messages"][-1]["content"])
            assert found is not None
            message = {"role": "assistant", "content": made.says(*found.groups())}
            answer = json.dumps({"choices": [{"message": message}]}).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{made.url}/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: Any) -> None:
            """Not to the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield made
    server.shutdown()
    server.server_close()


def samples(says: str, count: int = 3) -> list[Sample]:
    return [
        Sample(id=str(number), prompt=f"How is {{day}} {number}?", given="", answer=says)
        for number in range(count)
    ]


# By its patterns alone: it learns nothing first.
SCRUB = scrubbed_by(load_policy().model_copy(update={"detector": False}), None)


def ask(endpoint: Endpoint, ours: str = "cold", theirs: str = "warm", **more: Any) -> list[float]:
    settings = JudgeSettings(url=endpoint.url, **more)
    return [one.total for one in preferred(settings, samples(ours), samples(theirs), SCRUB)]


def test_a_judge_that_follows_the_order_says_nothing(endpoint: Endpoint) -> None:
    endpoint.says = lambda *_: "A"
    assert ask(endpoint) == [0, 0, 0]
    assert len(endpoint.bodies) == 6


def test_a_judge_that_loves_length_prefers_the_longer(endpoint: Endpoint) -> None:
    endpoint.says = lambda _, first, second: "A" if len(first) > len(second) else "B"
    assert ask(endpoint, "it is cold", "warm") == [1, 1, 1]
    assert ask(endpoint, "warm", "it is cold") == [-1, -1, -1]


def test_a_preference_in_one_order_only_is_half_of_one(endpoint: Endpoint) -> None:
    endpoint.says = lambda _, first, __: "A" if first == "cold" else "Tie."
    assert ask(endpoint) == [0.5, 0.5, 0.5]
    assert ask(endpoint, "warm", "cold") == [-0.5, -0.5, -0.5]


def test_what_both_answered_is_judged_and_no_more_than_asked(endpoint: Endpoint) -> None:
    settings = JudgeSettings(url=endpoint.url, items=2, model="a-judge")
    found = preferred(settings, samples("cold", 5), samples("warm", 5)[1:], SCRUB)
    assert [one.id for one in found] == ["1", "2"]
    body = endpoint.bodies[0]
    assert (body["model"], body["temperature"]) == ("a-judge", 0)
    assert "How is {day} 1?" in body["messages"][1]["content"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint, status: int) -> None:
    endpoint.says = lambda _, first, __: "A" if first == "cold" else "B"
    endpoint.failures = [status, status]
    assert ask(endpoint, items=1) == [1]
    assert len(endpoint.bodies) == 4


def test_an_endpoint_that_stays_broken(endpoint: Endpoint) -> None:
    endpoint.failures = [500] * 100
    with pytest.raises(ModelError, match="HTTP 500") as raised:
        ask(endpoint)
    assert raised.value.transient


def test_a_refused_key_is_not_tried_again_and_the_rest_not_asked(endpoint: Endpoint) -> None:
    endpoint.failures = [401] * 1000
    settings = JudgeSettings(url=endpoint.url, items=200)
    with pytest.raises(ModelError, match="HTTP 401") as raised:
        preferred(settings, samples("cold", 200), samples("warm", 200), SCRUB)
    assert not raised.value.transient
    assert len(endpoint.bodies) < 100


def test_an_endpoint_that_is_not_there(endpoint: Endpoint) -> None:
    endpoint.url = "http://127.0.0.1:9/v1"
    with pytest.raises(ModelError, match="ConnectError"):
        ask(endpoint)


@pytest.mark.parametrize("said", ["I cannot say", "", "A or B", "Both a and b are fine"])
def test_nonsense_is_no_judgement(endpoint: Endpoint, said: str) -> None:
    endpoint.says = lambda *_: said
    with pytest.raises(ModelError, match="neither A, B nor TIE"):
        ask(endpoint, items=1)


@pytest.mark.parametrize(
    ("said", "points"),
    [("b", -1), ("**A**", 1), ("Answer B is better", -1), ("It is a tie", 0), ("A tie.", 0)],
)
def test_how_a_judgement_is_read(endpoint: Endpoint, said: str, points: float) -> None:
    endpoint.says = lambda _, first, __: said if first == "cold" else "TIE"
    assert ask(endpoint, items=1) == [points / 2]


def test_the_key_of_the_environment_is_sent(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(endpoint)
    assert set(endpoint.headers) == {None}
    monkeypatch.setenv(judge.KEY, "sk-test")
    ask(endpoint)
    assert endpoint.headers[-1] == "Bearer sk-test"


def test_the_key_may_be_a_setting(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(judge.KEY, "sk-of-the-environment")
    monkeypatch.setenv("JUDGE", "sk-of-the-setting")
    ask(endpoint, items=1, key={"env": "JUDGE"})
    assert set(endpoint.headers) == {"Bearer sk-of-the-setting"}
    with pytest.raises(ConfigError, match="evaluate.judge.key: .* variable NOWHERE is not set"):
        ask(endpoint, items=1, key={"env": "NOWHERE"})


# -- what is sent, and where to ------------------------------------------------------


def test_personal_data_in_message_and_answers_is_not_sent(endpoint: Endpoint) -> None:
    def said(answer: str) -> Sample:
        earlier = (
            Message(role="user", content="I am at 10.20.30.40"),
            Message(role="assistant", content="So am I, at https://example.org/?token=f3a9c1d4"),
        )
        return Sample(
            id="1", earlier=earlier, prompt="mail ann@example.org?", given="", answer=answer
        )

    mine, other = (
        said("No, mail bob@example.org, or ann@example.org."),
        said("Call +47 22 85 50 57."),
    )
    preferred(JudgeSettings(url=endpoint.url), [mine], [other], SCRUB)
    assert len(endpoint.bodies) == 2
    sent = json.dumps(endpoint.bodies)
    for value in ("ann@", "bob@", "22 85 50 57", "10.20.30.40", "f3a9c1d4"):
        assert value not in sent
    # The same address is the same in message and answer, or the answer would look wrong.
    text = endpoint.bodies[0]["messages"][1]["content"]
    assert "mail <EMAIL_ADDRESS_1>?" in text
    assert "No, mail <EMAIL_ADDRESS_2>, or <EMAIL_ADDRESS_1>." in text


def test_what_was_scrubbed_before_stays_as_it_is(endpoint: Endpoint) -> None:
    mine = Sample(id="1", prompt="Is <PERSON_1> in?", given="", answer="<PERSON_1> is out.")
    other = mine.model_copy(update={"answer": "Ask eve@example.org about <EMAIL_ADDRESS_1>."})
    preferred(JudgeSettings(url=endpoint.url), [mine], [other], SCRUB)
    text = endpoint.bodies[0]["messages"][1]["content"]
    assert "Is <PERSON_1> in?" in text
    assert "<PERSON_1> is out." in text
    assert "Ask <EMAIL_ADDRESS_2> about <EMAIL_ADDRESS_1>." in text


def test_what_cannot_be_scrubbed_is_not_sent_and_counted(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    long = "word " * 30_000  # the policy takes 100,000 characters
    found = preferred(
        JudgeSettings(url=endpoint.url),
        [*samples("cold", 2), *[one.model_copy(update={"id": "l"}) for one in samples(long, 1)]],
        [*samples("warm", 2), *[one.model_copy(update={"id": "l"}) for one in samples("warm", 1)]],
        SCRUB,
    )
    assert [one.id for one in found] == ["0", "1"]
    assert "word word" not in json.dumps(endpoint.bodies)
    assert any("1 conversations cannot be scrubbed" in line for line in caplog.messages)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(endpoint: Endpoint, status: int) -> None:
    endpoint.failures = [status] * 100
    with pytest.raises(ModelError, match=f"HTTP {status}") as raised:
        ask(endpoint, items=1)
    assert not raised.value.transient
    assert set(endpoint.paths) == {"/v1/chat/completions"}


def test_no_proxy_gets_what_stays_on_this_machine(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert ask(endpoint, items=1) == [0]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/v1",
        "https://10.0.0.7:8443/v1",
        "http://localhost:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://127.4.5.6/v1",
        "http://[::1]:8000/v1",
        "HTTP://LocalHost:1/v1",
    ],
)
def test_places_that_may_be_sent_conversations(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_EVALUATE__JUDGE__URL", url)
    assert load_settings().evaluate.judge.url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.org/v1",
        "http://10.0.0.7/v1",
        "http://0.0.0.0:8000/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1.example.org/v1",
        "http://2130706433/v1",
        "http://localhost\\@example.org/v1",
        "ftp://localhost/v1",
        "localhost:8000",
        "https:///v1",
        "https://user:hunter2@example.org/v1",
        "http://hunter2@localhost/v1",
        "http://[::1",
        "",
    ],
)
def test_places_that_may_not(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "evergreen.yaml"
    file.write_text(yaml.safe_dump({"evaluate": {"judge": {"url": url}}}), "utf-8")
    with pytest.raises(ConfigError, match="'evaluate.judge.url' in .*: must ") as refused:
        load_settings(file)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
