"""What a detector says of words becomes values, and a guess that is an ordinary word is none."""

import pytest

from data_contracts.findings import Finding
from tasks.scrub.learned import values
from tasks.scrub.ordinary_words import OrdinaryWords


def said(text: str, *pieces: tuple[str, str] | tuple[str, str, float]) -> list[Finding]:
    """Findings of these strings, left to right."""
    found, at = [], 0
    for piece, entity, *score in pieces:
        at = text.index(piece, at)
        found.append(Finding(at, at + len(piece), entity, *(score or [0.95])))
        at += len(piece)
    return found


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        # A number in pieces is one number.
        (
            "it is 741 477 337 I think",
            [("741", "ID_NUMBER"), ("477", "PHONE_NUMBER"), ("337", "ID_NUMBER")],
            [("741 477 337", "ID_NUMBER")],
        ),
        # A user name in pieces, and behind the word that announces it.
        ("log in as kofi_17b", [("kofi", "PERSON"), ("_17b", "USERNAME")],
         [("kofi_17b", "USERNAME")]),
        ("> whoami\nadjoa_44", [("whoami\nadjoa_44", "USERNAME")], [("adjoa_44", "USERNAME")]),
        # The word before a number is part of the address, and "The" of the company.
        ("to Apt. 17 there", [("17", "LOCATION")], [("Apt. 17", "LOCATION")]),
        (
            "from The Quarrymen Ltd. today",
            [("Quarrymen Ltd.", "ORGANIZATION")],
            [("The Quarrymen Ltd.", "ORGANIZATION")],
        ),
        # A postcode is one by the town beside it.
        ("01930 Ravenna", [("01930", "ID_NUMBER"), ("Ravenna", "LOCATION")],
         [("01930", "LOCATION"), ("Ravenna", "LOCATION")]),
        # Where the detector is sure, a number needs no word that announces it.
        ("so 7769593503 then", [("7769593503", "ID_NUMBER", 0.97)], [("7769593503", "ID_NUMBER")]),
        ("so 7769593503 then", [("7769593503", "ID_NUMBER", 0.5)], []),
        # Whatever it says, some numbers are nobody's.
        ("x = 7769593503 + 2", [("7769593503", "ID_NUMBER", 0.99)], []),
        ("it costs $7769593503", [("7769593503", "ID_NUMBER", 0.99)], []),
        ('{"id": 842525613, "n": 2}', [("842525613", "ID_NUMBER", 0.99)], []),
        ("request_id=842525613", [("842525613", "ID_NUMBER", 0.99)], []),
        ("sum:\n  9490645\n+ 8624936", [("9490645", "PHONE_NUMBER", 0.99)], []),
        ("304851044 - 249864463 is", [("304851044 - 249864463", "ID_NUMBER", 0.99)], []),
        ("9490645\n8624936", [("9490645\n8624936", "ID_NUMBER", 0.5)], []),
        # Nor are identifiers anybody's name or secret.
        ("see maxResults there", [("maxResults", "SECRET", 0.99)], []),
        ("got ERR_NOT_FOUND again", [("ERR_NOT_FOUND", "USERNAME", 0.99)], []),
        ("foo(get_user_by_id)", [("get_user_by_id", "USERNAME", 0.99)], []),
    ],
)  # fmt: skip
def test_values(text: str, pieces: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    found = list(values(said(text, *pieces), text))
    assert [(text[one.start : one.end], one.entity) for one in found] == expected


WORDS = OrdinaryWords(
    {
        "small": ["fudge", "bordspellen", "linsensuppe", "lemurs"],
        "large": ["tienes", "fudge"],
        "nouns": ["linsensuppe", "abschnitt"],
    }
)


@pytest.mark.parametrize(
    ("text", "name", "ordinary"),
    [
        ("what kind of fudge did you make", "fudge", True),
        ("ik hou van bordspellen", "van bordspellen", True),
        ("Tienes razón", "Tienes", True),
        ("and then Tienes said so", "Tienes", False),  # as a name is written
        ("Ich esse gern die Linsensuppe mit dir", "Linsensuppe", True),
        ("I ordered the Linsensuppe", "Linsensuppe", False),  # no German sentence
        ("my friend ottilie said", "ottilie", False),
        ("fudge ottilie", "fudge ottilie", False),
        ("my name is fudge", "fudge", False),  # somebody says so
        ("LEMURS are here", "LEMURS", False),
    ],
)
def test_ordinary_words(text: str, name: str, ordinary: bool) -> None:
    start = text.index(name)
    assert WORDS.hold(Finding(start, start + len(name), "PERSON"), text) is ordinary


def test_only_names_are_held_against_words() -> None:
    assert not WORDS.hold(Finding(0, 5, "SECRET"), "fudge")
