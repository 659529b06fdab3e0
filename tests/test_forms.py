"""A finding has its entity's form, whoever made it: what is not of it goes, and marks stay out."""

import random
import re

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.findings import Finding
from tasks.scrub.forms import formed, parts
from tasks.scrub.recognizers.phones import AnyPhoneRecognizer

ENTITIES = (
    "PERSON", "LOCATION", "ORGANIZATION", "DATE_OF_BIRTH", "EMAIL_ADDRESS", "PHONE_NUMBER",
    "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS", "URL", "USERNAME", "ID_NUMBER",
    "ACCOUNT_ID", "DEVICE_ID", "US_SSN",
)  # fmt: skip


def formed_in(entity: str, marked: str) -> str | None:
    """What is left of the finding that stands in «»."""
    before, _, rest = marked.partition("«")
    inside, _, after = rest.partition("»")
    text = before + inside + after
    found = formed(Finding(len(before), len(before) + len(inside), entity), text)
    return found and text[found.start : found.end]


KEPT = [
    ("PHONE_NUMBER", "**Tel.:** «+44 (0)161 496 0734»", "+44 (0)161 496 0734"),
    ("PHONE_NUMBER", "erreichst du mich («(089) 2180 1234»)", "(089) 2180 1234"),
    ("PHONE_NUMBER", "mon portable : «06 39 98 01 23.»", "06 39 98 01 23"),
    ("PHONE_NUMBER", "bel «020 624 11 11», na acht", "020 624 11 11"),
    ("PHONE_NUMBER", '"mobile": «"9820098200"»', "9820098200"),
    ("PHONE_NUMBER", "extension, call me «44718»", "44718"),
    ("PHONE_NUMBER", "ring me: «oh one six one four nine six oh seven three four»",
     "oh one six one four nine six oh seven three four"),
    ("DATE_OF_BIRTH", "## «Born 14. März 1977»", "Born 14. März 1977"),
    ("DATE_OF_BIRTH", "née le «2 août 1968.»", "2 août 1968"),
    ("DATE_OF_BIRTH", "birthday: «30/06»", "30/06"),
    ("DATE_OF_BIRTH", "Jahrgang «1954»", "1954"),
    ("PERSON", "# «# Ilse Moreau-Quint**», ", "Ilse Moreau-Quint"),
    ("PERSON", "says «T. S. McAdam Jr.», who", "T. S. McAdam Jr."),
    ("PERSON", "<b>«<i>Rukmini</i>»</b>", "Rukmini"),
    ("PERSON", "hi, im «jannike» from", "jannike"),
    ("PERSON", "with Mar«guer»ite now", "Marguerite"),
    ("LOCATION", "in «(Bad Kleinen)»", "Bad Kleinen"),
    ("LOCATION", "PLZ «04277»", "04277"),
    ("LOCATION", "in «St.», Gallen", "St."),
    ("ORGANIZATION", "at «Fenwick & Sons Ltd.», ", "Fenwick & Sons Ltd."),
    ("USERNAME", "ping «@otter_77»!", "@otter_77"),
    ("USERNAME", "su usuario es «lunallena»", "lunallena"),
    ("ID_NUMBER", "Reisepass «C01X00T47»,", "C01X00T47"),
    ("ACCOUNT_ID", "booking ref «QX7L2»", "QX7L2"),
    ("DEVICE_ID", "serial «[FK1-0093A]»", "FK1-0093A"),
    ("SECRET", "mot de passe : «'cerise!42)'»", "cerise!42)"),
    ("URL", "see «<https://pad.example.org/x?id=7>»", "https://pad.example.org/x?id=7"),
    ("URL", "on «rosas-garden.example.co.uk»", "rosas-garden.example.co.uk"),
    ("EMAIL_ADDRESS", "(«mailbox@posteo.example)»", "mailbox@posteo.example"),
    ("IP_ADDRESS", "banned «81.2.69.142»,", "81.2.69.142"),
    ("CREDIT_CARD", "«5105-1051-0510-5100»", "5105-1051-0510-5100"),
    ("IBAN_CODE", "«[NL20INGB0001234567]»", "NL20INGB0001234567"),
]  # fmt: skip

DROPPED = [
    ("PHONE_NUMBER", "so 9 * 8 = «72»"),
    ("PHONE_NUMBER", "«31/12/2019 - 05/01/2020»"),
    ("PHONE_NUMBER", "it grew from «1 250 000» to 2 000 000"),
    ("PHONE_NUMBER", "time=«1731628800»"),
    ("PHONE_NUMBER", "time=«1731628800123»"),
    ("PHONE_NUMBER", "ISBN «0-19-852663-6»"),
    ("PHONE_NUMBER", "| 7 | «4155550132» | 9 |"),
    ("PHONE_NUMBER", "«0123456789»"),
    ("PHONE_NUMBER", "a file of «2147483648 bytes»"),
    ("PHONE_NUMBER", "build_«20240131»_x"),
    ("PHONE_NUMBER", "x = «5550100200» - 4"),
    ("PHONE_NUMBER", "I sold «12500» phones"),
    ("DATE_OF_BIRTH", "\n«# 10»"),
    ("DATE_OF_BIRTH", "«2023-04-05»T06:07:08Z started"),
    ("DATE_OF_BIRTH", "in «1999» it was"),
    ("DATE_OF_BIRTH", "born in room «45/99/1990»"),
    ("PERSON", "def «get_»account_by_key(self):"),
    ("PERSON", "call «parseHeader» first"),
    ("PERSON", "ask «Mrs.» now"),
    ("PERSON", "«maybe» later"),
    ("PERSON", "«Peut-être» que... «Pourquoi»"),
    ("PERSON", "model = «Ridge»(alpha=2)"),
    ("LOCATION", "at «4711» of"),
    ("ORGANIZATION", "from «linear_model» import"),
    ("USERNAME", "x = «session».query()"),
    ("USERNAME", "the «and» operator"),
    ("USERNAME", "see «max_retry_count» there"),
    ("ID_NUMBER", "an «RTX 3080» runs"),
    ("ID_NUMBER", "as in «ISO 27001»"),
    ("ID_NUMBER", "returned HTTP «404»"),
    ("ID_NUMBER", "commit «a1b2c3d4e5f6»"),
    ("ACCOUNT_ID", "the sum is «1234567»."),
    ("DEVICE_ID", "the «iPhone 14»"),
    ("SECRET", "pod «api-5c689d88bb-qsv8x»"),
    ("SECRET", "id «c0ffee00-1234-4abc-8def-0123456789ab»"),
    ("SECRET", "sha256:«9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08»"),
    ("SECRET", "PASS = '«%s»'"),
    ("URL", "use «os.path» here"),
    ("URL", "«logger.info»('x')"),
    ("URL", "open «main.rs»"),
    ("URL", "«http://localhost:8000/»"),
    ("EMAIL_ADDRESS", "clone «git@example.org»:a/b"),
    ("EMAIL_ADDRESS", "«logo@2x.png»"),
    ("IP_ADDRESS", "upgrade to «4.18.0.2»"),
    ("IP_ADDRESS", "bind «127.0.0.1»"),
    ("CREDIT_CARD", "«4111 1111 1111 1112»"),
    ("CREDIT_CARD", "«1700000000003»"),
    ("IBAN_CODE", "«NL21INGB0001234567»"),
]


@pytest.mark.parametrize(("entity", "marked", "left"), KEPT)
def test_what_has_its_form_is_kept_without_the_marks_around(
    entity: str, marked: str, left: str
) -> None:
    assert formed_in(entity, marked) == left


@pytest.mark.parametrize(("entity", "marked"), DROPPED)
def test_what_has_not_its_form_is_dropped(entity: str, marked: str) -> None:
    assert formed_in(entity, marked) is None


def test_a_finding_is_cut_at_the_cells_of_a_table() -> None:
    text = "| Ana Lopes | Tom Reed |\n- Eva Sand"
    pieces = parts(Finding(2, len(text), "PERSON"), text)
    assert [text[one.start : one.end] for one in pieces if formed(one, text)] == [
        "Ana Lopes",
        "Tom Reed",
        "Eva Sand",
    ]


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(
        st.one_of(
            st.sampled_from("abcXYZ éß0123456789 .,;:!?()[]{}<>#*_-+/=\"'|`@&%\n"),
            st.characters(codec="utf-8"),
        ),
        min_size=1,
        max_size=60,
    ),
    entity=st.sampled_from(ENTITIES),
    data=st.data(),
)
def test_a_finding_only_grows_to_the_ends_of_its_words(
    text: str, entity: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    found = formed(Finding(start, end, entity), text)
    if found is None:
        return
    assert found.start < found.end
    assert not re.search(r"\W", text[found.start : start].replace("_", "x"))
    assert not re.search(r"\W", text[end : found.end].replace("_", "x"))
    assert text[found.start] not in " \n#*|`\"'=<>[]{},;!?~"
    assert text[found.end - 1] not in " \n#*|`\"'=<,:;!?~([{"


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 10**12), min_size=2, max_size=5),
    signs=st.lists(
        st.sampled_from([" + ", " - ", " * ", "*", "+", " × ", " / ", " = ", " ÷ ", " < "]),
        min_size=5, max_size=5,
    ),
    after=st.sampled_from(["", ".", "\n\n# 8", "\n**9**", " = 10"]),
    entity=st.sampled_from(["PHONE_NUMBER", "DATE_OF_BIRTH", "ID_NUMBER", "LOCATION"]),
)  # fmt: skip
def test_arithmetic_is_nobodys_data(
    numbers: list[int], signs: list[str], after: str, entity: str
) -> None:
    text = "".join(f"{n}{sign}" for n, sign in zip(numbers, signs, strict=False)) + "7" + after
    for match in re.finditer(r"\d+", text):
        assert formed(Finding(match.start(), match.end(), entity), text) is None, match[0]
    phones = AnyPhoneRecognizer().analyze(text, ["PHONE_NUMBER"])
    assert phones == [], [text[one.start : one.end] for one in phones]


ANNOUNCED = (
    "My mobile is {}.", "Meine Handynummer lautet {}, danke.", "Mon téléphone, c'est le {}.",
    "Llámame al {}.", "Il mio cellulare è {}.", "O meu telemóvel é o {}.", "Bel me op {}, graag.",
)  # fmt: skip


@pytest.mark.parametrize("sentence", ANNOUNCED)
def test_an_announced_number_of_any_region_is_found_whole(sentence: str) -> None:
    missed = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            number = phonenumbers.example_number_for_type(region, kind)
            for form in (0, 1, 2) if number else ():
                value = phonenumbers.format_number(number, form)
                text = sentence.format(value)
                found = AnyPhoneRecognizer().analyze(text, ["PHONE_NUMBER"])
                spans = [text[one.start : one.end] for one in found]
                if value not in spans and len(re.sub(r"\D", "", value)) >= 5:
                    missed.append((region, value, spans))
    assert missed == []


def test_numbers_of_a_plan_need_no_word_where_they_are_written_as_telephone_numbers() -> None:
    chosen = random.Random(5)
    for region in ("US", "GB", "DE", "FR", "IT", "BR", "NL", "AU"):
        number = phonenumbers.example_number_for_type(
            region, phonenumbers.PhoneNumberType.FIXED_LINE
        )
        form = chosen.choice([0, 1, 2])
        value = phonenumbers.format_number(number, form)
        text = f"Well, {value} then"
        assert formed(Finding(6, 6 + len(value), "PHONE_NUMBER"), text) is not None, (region, value)
