"""A value cut between messages of one speaker is found, and each piece in its own message."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.findings import Finding
from tasks.scrub.across import across
from tasks.sources import chitchat_rows


def card_of(seed: int) -> str:
    body = "5" + "".join(random.Random(seed).choices("0123456789", k=14))
    for last in "0123456789":
        doubled = [int(d) * (1 + at % 2) for at, d in enumerate(reversed(body + last))]
        if sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0:
            return body + last
    raise AssertionError


def pieces(texts: list[str], value: str) -> list[tuple[int, str]]:
    """Where the characters of a value stand, if a crossing holds it."""
    form = r"[ -]?".join(map(re.escape, value))
    for crossing in across(texts):
        match = re.search(form, crossing.text)
        if match:
            parts = crossing.findings(Finding(*match.span(), "X"))
            return [(index, texts[index][one.start : one.end]) for index, one in parts]
    return []


@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.sampled_from([("my card is ", ""), ("", " ok?"), ("é: ", " – danke"), ("nr\u200b ", "")]),
    st.sampled_from(["", "...", " ", ",", "\n"]),
)
def test_a_card_over_two_messages(seed: int, cut: int, around: tuple[str, str], tail: str) -> None:
    groups = re.findall("....", card_of(seed))
    before, after = " ".join(groups[:cut]), " ".join(groups[cut:])
    texts = ["hi", around[0] + before + tail, after + around[1], "thanks"]
    # What stands after the number stands in the last message, whatever is before in the first.
    assert pieces(texts, "".join(groups)) == [(1, before), (2, after)]


def test_a_card_a_group_a_message() -> None:
    groups = re.findall("....", card_of(7))
    texts = ["here it comes", *groups, "got it?"]
    assert pieces(texts, "".join(groups)) == list(enumerate(groups, 1))


@pytest.mark.parametrize(
    ("texts", "value", "parts"),
    [
        (["call 555-867", "5309 please"], "5558675309", ["555-867", "5309"]),
        (["it's +44 20 7946", "and 0958"], "+442079460958", ["+44 20 7946", "0958"]),
        (["IBAN DE89 3704 0044", "0532 0130 00"], "DE89370400440532013000", None),
        (
            ["mail me: ida.falk@", "example.org"],
            "ida.falk@example.org",
            ["ida.falk@", "example.org"],
        ),
        (["it is ida.falk", "@example.org"], "ida.falk@example.org", ["ida.falk", "@example.org"]),
        (["ida@example", ".org."], "ida@example.org", ["ida@example", ".org"]),
        (["ida@example.", "org"], "ida@example.org", ["ida@example.", "org"]),
        (["card ٤١١١ ١١١١", "1111 1111"], "4111111111111111", ["٤١١١ ١١١١", "1111 1111"]),
    ],
)
def test_other_values(texts: list[str], value: str, parts: list[str] | None) -> None:
    expected = parts or ["DE89 3704 0044", "0532 0130 00"]
    assert pieces(texts, value) == list(enumerate(expected))


@pytest.mark.parametrize(
    "texts",
    [
        ["I have 2 cats", "3 dogs"],
        ["it was in 2019", "2020 was worse"],
        ["555-867-5309", "555-867-5310"],
        ["see you at 10", "12:30 is better"],
        ["my score is 1500", "2. next question"],
        ["write to ida@example.org.", "ok"],
        ["write to ida@example.org", "com is fine too"],
        ["12", "15", "18", "21", "24", "27", "30", "33", "36"],
        ["4111 1111"],
        [],
        ["", ""],
    ],
)
def test_what_does_not_go_on(texts: list[str]) -> None:
    assert across(texts) == []


def test_a_finding_within_one_message_is_left_to_it() -> None:
    (crossing,) = across(["bo@example.org, 555-867", "5309 and bo@example.org"])
    for place in (crossing.text.index("bo@"), crossing.text.rindex("bo@")):
        assert crossing.findings(Finding(place, place + 14, "EMAIL_ADDRESS")) == []


def test_conversations_have_nothing_across() -> None:
    speakers = [
        [message["content"] for message in row["messages"] if message["role"] == role]
        for _, row in zip(range(300), chitchat_rows(), strict=False)
        for role in ("user", "assistant")
    ]
    assert sum(map(len, speakers)) > 2000
    assert [crossing.text for texts in speakers for crossing in across(texts)] == []
