"""The judge, asked over HTTP by a server that speaks chat completions."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from data_contracts.errors import ModelError
from tasks.evaluate import judge
from tasks.evaluate.judge import JudgeSettings, preferred
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
            if self.path != "/v1/chat/completions":
                status = 404
            found = SHOWN.search(body["messages"][-1]["content"])
            assert found is not None
            message = {"role": "assistant", "content": made.says(*found.groups())}
            answer = json.dumps({"choices": [{"message": message}]}).encode()
            self.send_response(status)
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


def ask(endpoint: Endpoint, ours: str = "cold", theirs: str = "warm", **more: Any) -> list[float]:
    settings = JudgeSettings(url=endpoint.url, **more)
    return [one.total for one in preferred(settings, samples(ours), samples(theirs))]


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
    found = preferred(settings, samples("cold", 5), samples("warm", 5)[1:])
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
        preferred(settings, samples("cold", 200), samples("warm", 200))
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
