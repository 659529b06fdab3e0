"""Names that were found once are found again, and words that are no names are left."""

import pytest

from data_contracts.findings import Finding
from data_contracts.policy import load_policy
from data_contracts.records import Message
from tasks.scrub.engine import scrub_messages
from tasks.scrub.mentions import Mentions

POLICY = load_policy().model_copy(update={"detector": False})


def mentions(text: str, *names: str, score: float = 0.9, entity: str = "PERSON") -> Mentions:
    return Mentions((text, at(text, name, score, entity)) for name in names)


def at(text: str, name: str, score: float = 0.9, entity: str = "PERSON") -> Finding:
    start = text.index(name)
    return Finding(start, start + len(name), entity, score)


@pytest.mark.parametrize(
    ("said", "name", "later", "expected"),
    [
        (
            "I met Ottilie Brandt.",
            "Ottilie Brandt",
            "ottilie's car, BRANDT!",
            ["ottilie", "BRANDT"],
        ),
        ("I met Jean-Luc.", "Jean-Luc", "jean-luc and Jean", ["jean-luc"]),
        ("It is O'Neill.", "O'Neill", "Ask O'Neill.", ["O'Neill"]),
        ("Dr. van der Meer", "Dr. van der Meer", "van der Meer said", ["Meer"]),
        ("I met Li.", "Li", "Li Li li", []),  # too short to be sure of
        ("I met Mark.", "Mark", "Mark it with a mark. Then ask Mark.", ["Mark"]),
        ("I met May Lindqvist.", "May Lindqvist", "May I? In may. Ask Lindqvist", ["Lindqvist"]),
        ("I met Zoë.", "Zoë", "ZOË, not Zoëtrope or aZoë", ["ZOË"]),
    ],
)
def test_found_again(said: str, name: str, later: str, expected: list[str]) -> None:
    found = mentions(said, name).added(later, [])
    assert [later[one.start : one.end] for one in found] == expected


def test_one_doubtful_finding_is_not_enough_and_two_are() -> None:
    text = "Vielleicht fehlt Brot"
    once = mentions(text, "Vielleicht", score=0.55)
    assert once.added("vielleicht auch nicht", []) == []
    twice = Mentions([(text, at(text, "Brot", 0.55)), (text, at(text, "Brot", 0.6))])
    assert len(twice.added("das Brot", [])) == 1


def test_what_is_found_already_stays_as_it_is() -> None:
    text = "Ottilie Brandt and Ottilie"
    found = [at(text, "Ottilie Brandt")]
    added = mentions(text, "Ottilie Brandt").added(text, found)
    assert added[0] == found[0]
    assert [text[one.start : one.end] for one in added] == ["Ottilie Brandt", "Ottilie"]


def test_nine_names_through_a_conversation() -> None:
    """A finder that knows names only behind `I am`, as a poor detector would."""
    names = [
        "Kwabena", "Ingeborg", "Thandiwe", "Zbigniew", "Marisol", "Yevgenia", "Oluwaseun", "Aoife",
        "Dimitrios",
    ]  # fmt: skip

    def find(text: str) -> list[Finding]:
        return [at(text, name) for name in names if f"I am {name}" in text]

    for name in names:
        messages = [
            Message(role="user", content=f"hi, I am {name}, see {name}'s order"),
            Message(role="assistant", content=f"Hello {name}! {name.upper()}, wait."),
            Message(role="user", content=f'{{"who": "{name.lower()}", "n": 3}}'),
        ]
        clean = scrub_messages(messages, find, POLICY, None)
        assert all(name.casefold() not in one.content.casefold() for one in clean.messages)
        assert clean.findings == {"PERSON": 5}
        assert len({one.content.count("<PERSON_1>") for one in clean.messages}) == 2
