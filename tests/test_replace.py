"""Stand-ins are consistent, keep their format, and leave the rest of the text alone."""

# Letters of many scripts are what is tested.

import ipaddress
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts import checksums
from data_contracts.errors import ConfigError
from data_contracts.findings import Finding
from data_contracts.policy import PLACEHOLDER, ScrubPolicy
from tasks.scrub.replace import (
    INVENTORS,
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    Replacer,
    fingerprint,
    normalised,
    secret_key,
)
from tasks.scrub.synthetic.sentences import sentences

KEY = b"0123456789abcdef"
OTHER_KEY = b"fedcba9876543210"
ENTITIES = sorted(
    {*INVENTORS, "PHONE_NUMBER", "ID_NUMBER", "US_SSN", "UK_NHS", "USERNAME", "SECRET", "CRYPTO"}
)
OPERATORS = ("placeholder", "pseudonym", "surrogate")
# Combining marks, an emoji of several code points, right-to-left with a mark, zero-width signs.
HARD = "e\u0301\u0327 👩\u200d👩\u200d👧 \u202eשלום\u200f \u200b\ufeff नमस्ते \r\n\t ﬁ İ ß \x00 "


def policy(operator: str, consistent: str = "conversation") -> ScrubPolicy:
    return ScrubPolicy.model_validate(
        {
            "version": 1,
            "entities": {entity: {"threshold": 0.5} for entity in ENTITIES},
            "operator": operator,
            "consistent": consistent,
        }
    )


def found(text: str, values: Sequence[str], entity: str) -> list[Finding]:
    """Where the values stand in the text."""
    pattern = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
    return [Finding(*match.span(), entity) for match in re.finditer(pattern, text)]


def replaced(
    operator: str,
    texts: Sequence[str],
    *values: str,
    entity: str = "PERSON",
    key: bytes = KEY,
    consistent: str = "conversation",
) -> list[str]:
    replacer = Replacer(policy(operator, consistent), texts, key)
    return [replacer.replace(text, found(text, values, entity)) for text in texts]


def stand_in(
    operator: str, value: str, entity: str, key: bytes = KEY, consistent: str = "conversation"
) -> str:
    """For a value that is the whole of its conversation."""
    [text] = replaced(operator, [value], value, entity=entity, key=key, consistent=consistent)
    return text


def surrogate(value: str, entity: str, key: bytes = KEY, consistent: str = "conversation") -> str:
    return stand_in("surrogate", value, entity, key, consistent)


# -- the key --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)


def test_placeholders_need_no_key() -> None:
    assert secret_key(policy("placeholder")) is None


def test_the_key_is_read_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(OTHER_KEY + b"\n")
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(file))
    assert secret_key(policy("pseudonym")) == OTHER_KEY
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    assert secret_key(policy("surrogate")) == KEY


def test_one_entity_alone_may_need_the_key() -> None:
    rules = {"PERSON": {"threshold": 0.5}, "URL": {"threshold": 0.5, "operator": "pseudonym"}}
    with pytest.raises(ConfigError):
        secret_key(ScrubPolicy.model_validate({"version": 1, "entities": rules}))


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        (KEY_VARIABLE, "", "there is none"),
        (KEY_VARIABLE, "too-short-secret"[:15], "shorter than 16 bytes"),
        (KEY_FILE_VARIABLE, "/nowhere/too-short-secret", "cannot read the file"),
        (KEY_FILE_VARIABLE, "/", "cannot read the file"),
        (KEY_FILE_VARIABLE, os.devnull, "shorter than 16 bytes"),
    ],
)
def test_a_key_that_is_missing_or_weak_is_an_error_that_does_not_quote_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=problem) as error:
        secret_key(policy("pseudonym"))
    assert KEY_VARIABLE in error.value.fix
    assert "\n" not in str(error.value)
    assert "too-short" not in "".join(traceback.format_exception(error.value))


def test_a_fingerprint_tells_keys_apart_and_does_not_tell_them() -> None:
    assert fingerprint(None) is None
    assert fingerprint(KEY) == fingerprint(bytes(KEY))
    assert fingerprint(KEY) != fingerprint(OTHER_KEY)
    assert KEY.hex() not in str(fingerprint(KEY))


@pytest.mark.parametrize("key", [None, b""])
def test_no_pseudonym_is_made_without_a_key(key: bytes | None) -> None:
    with pytest.raises(ValueError, match="needs a key"):
        Replacer(policy("pseudonym"), [], key)


# -- consistency ----------------------------------------------------------------------------

TURNS = ("I am Ann Lee, with Bob Ray.", "Hello ANN  LEE! And Bob Ray?", "ａｎｎ lee and Cy Poe")
NAMES = ("Ann Lee", "ANN  LEE", "ａｎｎ lee", "Bob Ray", "Cy Poe")


def test_placeholders_are_numbered_left_to_right_and_the_same_throughout() -> None:
    assert replaced("placeholder", TURNS, *NAMES) == [
        "I am <PERSON_1>, with <PERSON_2>.",
        "Hello <PERSON_1>! And <PERSON_2>?",
        "<PERSON_1> and <PERSON_3>",
    ]


def test_pseudonyms_are_the_same_throughout() -> None:
    first, second, third = replaced("pseudonym", TURNS, *NAMES)
    ann, bob = PLACEHOLDER.finditer(first)
    assert re.fullmatch("<PERSON_[0-9a-f]{12}>", ann[0])
    assert ann[0] != bob[0]
    assert second == f"Hello {ann[0]}! And {bob[0]}?"
    assert third.startswith(f"{ann[0]} and <PERSON_")
    assert len({match[0] for text in (first, third) for match in PLACEHOLDER.finditer(text)}) == 3


def test_surrogates_are_the_same_throughout_in_the_case_of_each_mention() -> None:
    first, second, third = replaced("surrogate", TURNS, *NAMES)
    parts = re.fullmatch(r"I am (\w+) (\w+), with (\w+ \w+)\.", first)
    assert parts
    given_name, family, bob = parts.groups()
    assert second == f"Hello {given_name.upper()}  {family.upper()}! And {bob}?"
    assert third.startswith(f"{given_name} {family} ".lower())
    assert not any(name in "".join((first, second, third)) for name in NAMES)


@pytest.mark.parametrize("operator", ["pseudonym", "surrogate"])
def test_everywhere_or_in_one_conversation(operator: str) -> None:
    def both(consistent: str, key: bytes = KEY) -> list[str]:
        return [
            replaced(
                operator, [text], "123-45-6789", entity="US_SSN", key=key, consistent=consistent
            )[0].removeprefix(text[:4])
            for text in ("ask 123-45-6789", "not 123-45-6789")
        ]

    everywhere, by_conversation = both("everywhere"), both("conversation")
    assert everywhere[0] == everywhere[1]
    assert len({*everywhere, *by_conversation}) == 3
    assert both("conversation") == by_conversation
    assert both("everywhere", OTHER_KEY)[0] not in {*everywhere, *by_conversation}


def test_placeholders_are_numbered_by_conversation_even_everywhere() -> None:
    assert stand_in("placeholder", "Bob", "PERSON", consistent="everywhere") == "<PERSON_1>"


def test_an_entity_has_a_name_space_of_its_own() -> None:
    texts = ["Paris"]
    replacer = Replacer(policy("pseudonym", "everywhere"), texts, KEY)
    person, place = (
        replacer.replace("Paris", found("Paris", texts, entity))
        for entity in ("PERSON", "LOCATION")
    )
    assert person.partition("_")[2] != place.partition("_")[2]


def test_stand_ins_are_the_same_in_every_process() -> None:
    script = (
        "from tests.test_replace import *;"
        "print([surrogate('Ann Lee of Rome 1', entity) for entity in ENTITIES])"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = [surrogate("Ann Lee of Rome 1", entity) for entity in ENTITIES]
    assert there.strip() == str(here)


# -- collisions -----------------------------------------------------------------------------


def test_a_typed_placeholder_is_never_taken_for_ours() -> None:
    texts = ["<PERSON_7> is a template", "I am Bob, not <URL_2>"]
    assert replaced("placeholder", texts, "Bob") == [texts[0], "I am <PERSON_8>, not <URL_2>"]


@pytest.mark.parametrize("digits", ["123456789012", "3f9a2c81b0de", "9" * 5000])
def test_a_pseudonym_that_stands_in_the_text_does_not_number_placeholders(digits: str) -> None:
    texts = [f"<PERSON_{digits}> and Bob"]
    assert replaced("placeholder", texts, "Bob") == [f"<PERSON_{digits}> and <PERSON_1>"]


def test_a_typed_pseudonym_is_never_taken_for_ours() -> None:
    ours = stand_in("pseudonym", "Bob", "PERSON", consistent="everywhere")
    texts = ["I am Bob", f"not {ours}"]
    first, second = replaced("pseudonym", texts, "Bob", consistent="everywhere")
    assert second == texts[1]
    assert ours not in first
    assert PLACEHOLDER.search(first)


def test_two_values_never_share_a_surrogate_even_when_inventions_run_out() -> None:
    digits = [str(digit) for digit in range(10)]
    [text] = replaced("surrogate", [" ".join(digits)], *digits, entity="ID_NUMBER")
    assert len(set(text.split())) == 10
    names = [f"Name{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(500)]
    [text] = replaced("surrogate", [" ".join(names)], *names)
    assert len({name.casefold() for name in text.split()}) == 500


@pytest.mark.parametrize("value", ["--", "Dr.", "🙂"])
def test_what_cannot_be_invented_gets_a_pseudonym(value: str) -> None:
    assert PLACEHOLDER.fullmatch(surrogate(value, "PERSON"))


# -- formats --------------------------------------------------------------------------------


def kinds(text: str) -> str:
    """Digits as 0, letters as a or A, the rest to the letter."""
    return re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub("[0-9]", "0", text)))


@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("PHONE_NUMBER", "+1 (555) 123-4567 x89"),
        ("US_SSN", "123-45-6789"),
        ("UK_NHS", "943 476 5919"),
        ("ID_NUMBER", "AB-12/cd.34"),
        ("USERNAME", "@jo_Doe.99"),
        ("SECRET", "sk-Ab3dEf9hIjKl!"),
        ("CRYPTO", "0x52fa1afbc52005bbc9c0d67219647592c91e1bfe"),
        ("LOCATION", "SW1A 2AA"),
        ("LOCATION", "90210-1234"),
    ],
)
def test_digits_and_letters_stay_what_they_are(entity: str, value: str) -> None:
    invented = surrogate(value, entity)
    assert invented != value
    assert kinds(invented) == kinds(value)


@given(st.integers(10, 18).flatmap(lambda n: st.text("0123456789", min_size=n, max_size=n)))
def test_cards_pass_luhn(digits: str) -> None:
    body = "4" + digits
    number = body + next(last for last in "0123456789" if checksums.luhn(body + last))
    for joint in ("", " ", "-"):
        value = joint.join(number[at : at + 4] for at in range(0, len(number), 4))
        invented = surrogate(value, "CREDIT_CARD")
        assert kinds(invented) == kinds(value)
        assert invented[0] == "4"
        assert checksums.luhn(re.sub(r"\D", "", invented))


@pytest.mark.parametrize(
    "value",
    ["GB82WEST12345698765432", "de89 3704 0044 0532 0130 00", "NO93-8601-1117-947"],
)
def test_ibans_have_right_check_digits(value: str) -> None:
    invented = surrogate(value, "IBAN_CODE")
    assert kinds(invented) == kinds(value)
    assert invented[:2] == value[:2]
    assert checksums.iban(re.sub(r"\W", "", invented))


@pytest.mark.parametrize(
    ("entity", "value"),
    [("CREDIT_CARD", "Bob 4111111111111111"), ("IBAN_CODE", "IBAN Bob"), ("IP_ADDRESS", "Bob ::1")],
)
def test_what_is_not_as_its_name_says_is_still_replaced(entity: str, value: str) -> None:
    invented = surrogate(value, entity)
    assert "Bob" not in invented
    assert kinds(invented) == kinds(value)


@pytest.mark.parametrize("value", ["10.1.2.3", "10.0.0.0/8", "::1", "2001:DB9::17", "fe80::1%eth0"])
def test_ip_addresses_are_for_documentation(value: str) -> None:
    documentation = [
        ipaddress.ip_network(network)
        for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
    ]
    invented = ipaddress.ip_interface(surrogate(value, "IP_ADDRESS"))
    given_address = ipaddress.ip_interface(value)
    assert invented.version == given_address.version
    assert invented.network.prefixlen == given_address.network.prefixlen
    assert any(
        invented.ip in network for network in documentation if network.version == invented.version
    )


def test_addresses_of_people_and_pages_are_examples() -> None:
    assert re.fullmatch(r"[\w.]+@example\.(com|org|net)", surrogate("jo@x.io", "EMAIL_ADDRESS"))
    assert re.fullmatch(r"https://example\.com/[a-z]+", surrogate("x.io/jo?q=1", "URL"))


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("1985-03-04", "%Y-%m-%d"),
        ("03/24/1985", "%m/%d/%Y"),
        ("24/03/1985", "%d/%m/%Y"),
        ("24.03.85", "%d.%m.%y"),
        ("MARCH 14, 1985", "%B %d, %Y"),
        ("14 mar 1985", "%d %b %Y"),
        ("Thursday, March 14, 1985", "%A, %B %d, %Y"),
        ("19850314", "%Y%m%d"),
        ("1985-03-14T10:20:30Z", "%Y-%m-%dT%H:%M:%SZ"),
        ("March 14, 1985 03:20 PM", "%B %d, %Y %I:%M %p"),
    ],
)
def test_dates_keep_their_format_and_move_two_years_at_most(value: str, form: str) -> None:
    invented = surrogate(value, "DATE_OF_BIRTH")
    moment = datetime.strptime(invented, form)
    assert moment.strftime(form).casefold() == invented.casefold()
    assert abs(moment - datetime.strptime(value, form)) <= timedelta(days=2 * 365 + 1)
    assert (invented.islower(), invented.isupper()) == (value.islower(), value.isupper())


def test_dates_that_are_not_padded_stay_so() -> None:
    dates = {surrogate("3/4/1985", "DATE_TIME", bytes([at] * 16)) for at in range(50)}
    assert not any(re.search(r"\b0", date) for date in dates)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("the 3rd of March 1985", r"the \d+th of [A-Z][a-z]+ 19\d\d"),
        ("on Mar 3 in '85", r"on [A-Z][a-z]{2,3} \d [a-z]{2} '\d\d"),
        ("9999-12-31", r"\d{4}-\d\d-\d\d"),
        ("born Bob 3", r"[a-z]{4} [A-Z][a-z]{2} \d"),
    ],
)
def test_other_dates_keep_their_shape(value: str, form: str) -> None:
    invented = surrogate(value, "DATE_TIME")
    assert re.fullmatch(form, invented)
    assert "Bob" not in invented


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("Ann", r"[A-Z][\w']+"),
        ("ann lee", r"[a-z']+ [a-z']+"),
        ("ANN LEE", r"[A-Z']+ [A-Z']+"),
        ("Ann B. Lee-Ray", r"[A-Z]\w+ [A-Z]\. [A-Z]\w+-[A-Z]\w+"),
        ("Dr. Lee", r"Dr\. [A-Z]\w+"),
        ("Анна Ли", r"[А-Яа-яё]+ [А-Яа-яё]+"),
        ("Χρήστος Παππάς", r"[\u0370-\u03ff]+ [\u0370-\u03ff]+"),
        ("محمد علي", r"[\u0600-\u06ff]+ [\u0600-\u06ff]+"),
        ("יוסי כהן", r"[\u0590-\u05ff'\"-]+ [\u0590-\u05ff'\"-]+"),
        ("刘金凤", r"[\u4e00-\u9fff]{2,4}"),
        ("渡辺 なおき", r"[\u3040-\u9fff]+ [\u3040-\u9fff]+"),
        ("김예진", r"[\uac00-\ud7a3]{2,4}"),
        ("राहुल जैन", r"[\u0900-\u097f]+ [\u0900-\u097f]+"),
    ],
)
def test_names_keep_script_case_and_number_of_words(value: str, form: str) -> None:
    invented = surrogate(value, "PERSON")
    assert re.fullmatch(form, invented), invented
    assert normalised(invented) != normalised(value)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("London", r"[A-Z][A-Za-z ]+"),
        ("10115 Berlin", r"\d{5} [A-Z][A-Za-z ]+"),
        ("Austin, TX 78701", r"[A-Z][A-Za-z ]+, [A-Z]{2} \d{5}"),
        ("12b Baker Street\r\nLONDON\r\nSW1A 2AA",
         r"\d\d[a-z] [A-Z][A-Za-z ]+\r\n[A-Z ]+\r\n[A-Z]{2}\d[A-Z] \d[A-Z]{2}"),
        ("東京都港区1-2", r"[\u3040-\u9fff].*\d.*"),
    ],
)  # fmt: skip
def test_places_keep_their_layout(value: str, form: str) -> None:
    assert re.fullmatch(form, surrogate(value, "LOCATION"))


def test_organisations_are_invented() -> None:
    assert "ACME" not in surrogate("ACME CORP", "ORGANIZATION")
    assert surrogate("ACME CORP", "ORGANIZATION").isupper()


@pytest.mark.parametrize("operator", OPERATORS)
def test_nothing_of_real_sentences_shows(operator: str) -> None:
    for sentence in sentences(300, seed=5):
        labels = [label for label in sentence.labels if label.entity in ENTITIES]
        replacer = Replacer(policy(operator), [sentence.text], KEY)
        for label in labels:
            value = sentence.text[label.start : label.end]
            alone = replacer.replace(value, [Finding(0, len(value), label.entity)])
            assert normalised(alone) != normalised(value)
            if operator == "surrogate":
                assert not PLACEHOLDER.search(alone)
                assert alone.count("\n") == value.count("\n")


# -- the rest of the text -------------------------------------------------------------------

PIECES = st.text(max_size=8) | st.sampled_from([HARD, "<PERSON_1>", "<b>", "Ann Lee", "4111 1111"])


@given(
    st.sampled_from(OPERATORS),
    st.lists(st.tuples(PIECES, PIECES, st.sampled_from(ENTITIES)), max_size=5),
    PIECES,
)
def test_what_is_not_found_is_untouched(
    operator: str, pieces: list[tuple[str, str, str]], end: str
) -> None:
    text, findings = "", []
    for before, value, entity in pieces:
        start = len(text) + len(before)
        text += before + value
        findings.append(Finding(start, start + len(value), entity))
    text += end
    result = Replacer(policy(operator), [text], KEY).replace(text, findings)
    replacer = Replacer(policy(operator), [text], KEY)
    at = 0
    for before, value, entity in pieces:
        alone = replacer.replace(value, [Finding(0, len(value), entity)])
        assert result[at:].startswith(before + alone)
        assert operator == "placeholder" or normalised(alone) != normalised(value)
        at += len(before + alone)
    assert result[at:] == end
    assert Replacer(policy(operator), [text], KEY).replace(text, []) == text


@pytest.mark.parametrize("operator", OPERATORS)
def test_hard_unicode_around_a_finding_survives(operator: str) -> None:
    text = f"{HARD}Ann Lee{HARD}"
    [result] = replaced(operator, [text], "Ann Lee")
    assert result.startswith(HARD)
    assert result.endswith(HARD)
    assert "Ann Lee" not in result
