"""Hidden forms are made plain and mapped back whole; ordinary text has nothing hidden."""

import base64
import random
import re
import string
import sysconfig
import time
import unicodedata
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.findings import Finding
from tasks.scrub.recognizers.money import CardNumberRecognizer, IbanRecognizer
from tasks.scrub.recognizers.network import EmailRecognizer
from tasks.scrub.views import View, hidden, view
from tasks.scrub.views.number_words import WORDS
from tasks.sources import chitchat_rows

STRONG = (EmailRecognizer(), CardNumberRecognizer(), IbanRecognizer())


def slices(text: str, value: str, views: list[View]) -> set[str]:
    """What of the original stands behind a value that is plain in any of the views."""
    spaced = r"[ -]{0,2}".join(map(re.escape, value)) if value.isdigit() else re.escape(value)
    found = set()
    for seen in views:
        for match in re.finditer(spaced, seen.text):
            one = seen.finding(Finding(*match.span(), "X"))
            found.add(text[one.start : one.end])
    return found


EMAILS = st.builds(
    "{}@{}.{}".format,
    st.from_regex(r"[a-z]{2,8}([._+-][a-z0-9]{1,6})?", fullmatch=True),
    st.from_regex(r"[a-z]{3,9}(-[a-z]{2,5})?", fullmatch=True),
    st.sampled_from(("org", "com", "co.uk", "museum", "pl")),
)


def card_of(seed: int) -> str:
    body = "4" + "".join(random.Random(seed).choices(string.digits, k=14))
    return next(body + d for d in string.digits if _luhn(body + d))


def _luhn(digits: str) -> bool:
    doubled = [int(d) * (1 + (place % 2)) for place, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


NUMBERS = st.integers(0, 10**6).map(card_of)
SIGNS = "@.+-_"
ENCODINGS = {
    "decimal": lambda v: "".join(f"&#{ord(c)};" if c in SIGNS else c for c in v),
    "decimal without semicolons": lambda v: v.replace("@", "&#64 ").replace(" ", ""),
    "padded": lambda v: "".join(f"&#{ord(c):05d};" for c in v),
    "hexadecimal": lambda v: "".join(f"&#x{ord(c):x};" for c in v),
    "named": lambda v: v.replace("@", "&commat;").replace(".", "&period;"),
    "soft hyphens": lambda v: "&shy;".join((v[:2], v[2:-3], v[-3:])).replace("@", "&#64;"),
    "percent": lambda v: quote(v, safe=""),
    "percent all": lambda v: "".join(f"%{ord(c):02X}" for c in v),
    "percent lower": lambda v: v.replace("@", "%40").replace(".", "%2e"),
    "percent u": lambda v: v.replace("@", "%u0040"),
    "percent twice": lambda v: quote(quote(v, safe=""), safe=""),
    "entities in percent": lambda v: quote("".join(f"&#{ord(c)};" for c in v), safe=""),
    "json": lambda v: "".join(f"\\u{ord(c):04x}" if c in SIGNS else c for c in v),
    "json in json": lambda v: v.replace("@", "\\\\u0040"),
    "braces": lambda v: v.replace("@", "\\u{40}"),
    "python": lambda v: "".join(f"\\x{ord(c):02x}" for c in v),
    "quoted-printable": lambda v: v.replace("@", "=40"),
    "quoted-printable all": lambda v: "".join(f"={ord(c):02X}" for c in v),
    "soft line break": lambda v: v[:3] + "=\n" + v[3:].replace("@", "=40"),
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 unpadded": lambda v: base64.urlsafe_b64encode(f"<{v}>?".encode()).decode().rstrip("="),
    "base64 twice": lambda v: base64.b64encode(base64.b64encode(v.encode())).decode(),
    "base64 in percent": lambda v: quote(base64.b64encode(v.encode()).decode(), safe=""),
    "hex": lambda v: v.encode().hex(),
}
AROUND = (
    ("", ""), ("mail ", " please"), ('"', '"'), ("(", ")."), ("<p>", "</p>"), ("x: ", ", y"),
    ("Grüße: ", " – bis später"), ("дом ", " 您好"),
)  # fmt: skip


@given(EMAILS, st.sampled_from(sorted(ENCODINGS)), st.sampled_from(AROUND))
def test_an_encoded_address_is_found_whole(email: str, name: str, around: tuple[str, str]) -> None:
    coded = ENCODINGS[name](email)
    text = coded.join(around)
    views = hidden(text)
    assert coded in slices(text, email, views), [seen.text for seen in views]
    assert views[0].kind == "encoded"


@given(
    NUMBERS, st.sampled_from(["decimal", "percent all", "python", "base64", "quoted-printable all"])
)
def test_an_encoded_number_is_found_whole(card: str, name: str) -> None:
    encode = {**ENCODINGS, "decimal": lambda v: "".join(f"&#{ord(c)};" for c in v)}[name]
    text = f"card: {encode(card)}, thanks"
    assert encode(card) in slices(text, card, hidden(text))


@pytest.mark.parametrize("between", ["&nbsp;", "%20", "+", "&#8203;", "&thinsp;", "\\u00a0"])
def test_codes_between_groups_of_digits(between: str) -> None:
    for seed in range(20):
        card = card_of(seed)
        coded = between.join(re.findall("....", card))
        text = f"/pay?card={coded}&ok=1" if between == "+" else f"card {coded} ok"
        assert coded in slices(text, card, hidden(text))


def test_encoded_punctuation_around_a_value_is_not_of_it() -> None:
    for text, coded in (
        ("%7B%22mail%22%3A%22ida%40example.org%22%7D", "ida%40example.org"),
        ("&lt;ida&#64;example.org&gt;", "ida&#64;example.org"),
        ("=3Cida=40example.org=3E", "ida=40example.org"),
        (r"\"ida\u0040example.org\u0022", r"ida\u0040example.org"),
    ):
        assert coded in slices(text, "ida@example.org", hidden(text))


def test_base64_in_lines_and_among_other_text() -> None:
    secret = "Kundin: ida.falk@example.org, seit Mai. " * 6
    body = base64.b64encode(secret.encode()).decode()
    lines = "\n".join(body[at : at + 76] for at in range(0, len(body), 76))
    text = f"Content-Transfer-Encoding: base64\n\n{lines}\n\n-- \nEnd of it"
    (seen,) = hidden(text)
    start = seen.text.index("ida.falk@example.org")
    found = seen.finding(Finding(start, start + 20, "EMAIL_ADDRESS"))
    assert text[found.start : found.end] == lines


SINGLES = {
    "spaces": " ".join,
    "double spaces": lambda v: "  ".join(" ".join(part) for part in re.findall("....", v)),
    "hyphens": "-".join,
    "spaced hyphens": " - ".join,
    "dashes": "–".join,
    "dots": ".".join,
    "lines": "\n".join,
    "underscores": "_".join,
    "two lines": lambda v: " ".join(v[:9]) + "\n" + " ".join(v[9:]),
    "no-break spaces": "\u00a0".join,
    "words": lambda v: " ".join(ENGLISH[int(d)] for d in v),
    "words in lines": lambda v: "\n".join(ENGLISH[int(d)] for d in v),
    "words and commas": lambda v: ", ".join(ENGLISH[int(d)] for d in v),
    "bold": lambda v: f"<b>{v[:3]}</b>{v[3:]}",
    "spans": lambda v: "".join(f'<span class="d">{part}</span>' for part in re.findall("..", v)),
    "break opportunities": lambda v: "<wbr>".join(re.findall("....", v)),
    "Markdown": lambda v: f"{v[:4]} **{v[4:8]}** {v[8:]}",
    "line break": lambda v: f"{v[:4]} {v[4:8]}\n{v[8:12]} {v[12:]}",
    "line break in a group": lambda v: f"{v[:4]} {v[4:6]}\r\n{v[6:8]} {v[8:12]} {v[12:]}",
    "line break in a quotation": lambda v: f"{v[:8]}\n> {v[8:]}",
    "break element": lambda v: f"{v[:8]}<br/>{v[8:]}",
    "comment": lambda v: f"{v[:8]}<!-- x -->{v[8:]}",
}  # fmt: skip
ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@given(NUMBERS, st.sampled_from(sorted(SINGLES)))
def test_a_card_in_pieces_is_found_whole(card: str, name: str) -> None:
    pieces = SINGLES[name](card)
    text = f"my card is {pieces} and it expires soon"
    found = slices(text, card, hidden(text))
    # The tag or mark that stands before a value, and after it, is markup around it.
    assert any(
        pieces.removeprefix("<b>").removeprefix('<span class="d">').removesuffix("</span>") == one
        for one in found
    ), [seen.text for seen in hidden(text)]


def test_groups_of_single_digits_stay_groups() -> None:
    for text, value in (
        ("ssn 5 3 6 - 2 2 - 8 7 2 6", "536-22-8726"),
        ("call 5 5 5, 8 6 7, 5 3 0 9!", "555 867 5309"),
        ("+ 4 4 7 7 0 0 9 0 0 1 2 3", "+447700900123"),
        ("+44 7 7 0 0 9 0 0 1 2 3", "+44 7700900123"),
        ("it is five three six, two two, eight seven two six.", "536 22 8726"),
    ):
        (seen,) = hidden(text)
        assert value in seen.text


LANGUAGES = {
    "en": "oh one two three four five six seven eight nine",
    "de": "null eins zwo drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "pt": "zero um dois três quatro cinco meia sete oito nove",
    "nl": "nul een twee drie vier vijf zes zeven acht negen",
}


@given(
    st.sampled_from(sorted(LANGUAGES)), st.text(string.digits, min_size=8, max_size=15), st.data()
)
def test_spelled_digits_of_seven_languages(language: str, digits: str, data: st.DataObject) -> None:
    if len(set(digits)) < 4:
        return
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(digits)}
    if len(steps) < 3:
        return
    between = data.draw(st.sampled_from((" ", ", ", " - ", "\n")))
    said = between.join(LANGUAGES[language].split()[int(digit)] for digit in digits)
    if data.draw(st.booleans()):
        said = said.upper()
    text = f"tel: {said}. ok"
    views = hidden(text)
    assert said in slices(text, digits, views)
    assert {seen.kind for seen in views} == {"spelled"}


@pytest.mark.parametrize(
    ("said", "digits"),
    [
        ("double oh seven triple five two one nine", "007555219"),
        ("plus four four seven seven double zero nine double zero one two three", "+447700900123"),
        ("zéro six quarante-deux soixante-dix-sept quatre-vingt-douze onze", "0642779211"),
        ("zéro un vingt et un trente-six quatre-vingts soixante et onze", "0121368071"),
        ("null eins sieben zwei einundzwanzig fünfundvierzig dreiunddreissig", "0172214533"),
        ("seis cinquenta e dois trinta e nove vinte e quatro", "6523924"),
        ("seis veintidós cuarenta y siete noventa y uno", "6224791"),
        ("tre quarantotto ventuno sessantasette", "3482167"),
        ("nul zes vierentwintig eenentachtig tweeënvijftig", "06248152"),
        ("eight six seven fifty-three oh nine", "8675309"),
        ("five five five dash eight six seven dash five three oh nine", "5558675309"),
        ("4 one 1 one seven three 8 two nine", "411173829"),
    ],
)
def test_numbers_as_they_are_dictated(said: str, digits: str) -> None:
    text = f"the number is {said}, yes"
    assert said in slices(text, digits, hidden(text)), [seen.text for seen in hidden(text)]


def test_no_number_word_has_two_values() -> None:
    assert {WORDS[word] for word in ("acht", "six", "sei", "nove", "elf")} == {"8", "6", "9", "11"}
    assert WORDS["quatre vingt dix neuf"] == "99"
    assert WORDS["einundachtzig"] == "81"
    assert all(0 <= int(value) < 100 for value in WORDS.values())
    assert set(map(int, WORDS.values())) == set(range(100))


SPELLED = {
    "brackets": lambda u, h: f"{u} [at] {h.replace('.', ' [dot] ')}",
    "parentheses": lambda u, h: f"{u}(at){h}",
    "spaces in brackets": lambda u, h: f"{u} ( at ) {h.replace('.', ' ( dot ) ')}",
    "capitals": lambda u, h: f"{u} AT {h.replace('.', ' DOT ')}",
    "German": lambda u, h: f"{u} at {h.replace('.', ' punkt ')}",
    "Spanish": lambda u, h: f"{u} arroba {h.replace('.', ' punto ')}",
    "Italian": lambda u, h: f"{u} chiocciola {h.replace('.', ' punto ')}",
    "French": lambda u, h: f"{u} arobase {h.replace('.', ' point ')}",
    "sign": lambda u, h: f"{u} @ {h.replace('.', ' dot ')}",
    "letters": lambda u, h: f"{' '.join(u)} at {' '.join(h).replace('.', 'dot')}",
    "letters before a name": lambda u, h: f"{' '.join(u)} at {h.replace('.', ' dot ')}",
    "joined": lambda u, h: f"{u}AT{h.replace('.', 'DOT')}",
}


@given(
    st.from_regex(r"[a-z]{4,9}", fullmatch=True),
    st.from_regex(r"[a-z]{4,9}\.(com|org|de)", fullmatch=True),
    st.sampled_from(sorted(SPELLED)),
)
def test_a_spelled_address_is_found_whole(user: str, host: str, name: str) -> None:
    said = SPELLED[name](user, host)
    text = f"My e-mail: {said}, thanks."
    assert said in slices(text, f"{user}@{host}", hidden(text)), [s.text for s in hidden(text)]


def test_signs_in_a_spelled_address() -> None:
    text = "es ist jo punkt von unterstrich berg at mail minus host punkt de oder so"
    assert slices(text, "jo.von_berg@mail-host.de", hidden(text)) == {text[7:-8]}


def test_addresses_and_ibans_over_line_breaks() -> None:
    for text, value, whole in (
        ("jo.falk@\nexample.org, ok", "jo.falk@example.org", "jo.falk@\nexample.org"),
        ("mail jo.falk\n@example.org", "jo.falk@example.org", "jo.falk\n@example.org"),
        ("mail jo@example\n.org now", "jo@example.org", "jo@example\n.org"),
        ("mail jo@<wbr>example.org", "jo@example.org", "jo@<wbr>example.org"),
        ("jo<b>@</b>example.org", "jo@example.org", "jo<b>@</b>example.org"),
        ("it is GB29 NWBK 6016\n1331 9268 19.", "GB29 NWBK 6016 1331 9268 19", None),
        ("it is G B 2 9 N W B K 6 0 1 6 1 3 3 1 9 2 6 8 1 9", "GB29NWBK60161331926819", None),
    ):
        found = slices(text, value, hidden(text))
        assert (whole or text.removeprefix("it is ").rstrip(".")) in found, text


NOT_HIDDEN = (
    "4 + 6 = 10", "1 2 3 4 5 6 7 8 9 10", "10 9 8 7 6 5 4 3 2 1", "1 0 0 1\n0 1 1 0\n1 1 0 0",
    "[3 1 4 1 5 9 2 6]", "3, 1, 4, 1, 5, 9, 2, 6, 5", "3,1,4,1,5,9,2,6,5\n2,7,1,8,2,8,1,8,2",
    "| 3 | 1 | 4 | 1 | 5 | 9 | 2 | 6 |", "5 3 4 6 7 8 9 1 2\n6 7 2 1 9 5 3 4 8\n1 9 8 3 4 2 5 6 7",
    "a=40", "x =\n    40", "50%40", "100%20", "git show 3f2a9c1e7b4d8f60a1b2c3d4e5f60718293a4b5c",
    "7f9c24e8-3b1a-4f5d-9c2e-8a7b6c5d4e3f", "one two three four five six seven eight nine ten",
    "two or three times, four at most", "uno dos tres cuatro cinco seis siete ocho",
    "ten twenty thirty forty fifty sixty", base64.b64encode(bytes(range(120, 250))).decode(),
    "3 - 1 - 1 - 5 - 2 - 6 - 4 = -16",
    "x = 3 - 1 - 1 - 5 - 2 - 6 - 4",
    "scores 3-1 2-0 4-2 1-1", "3.1 2.0 4.2 1.7 9.9", "mail us at example dot com",
    "2024\n2025\n2026\n2027", "1. 1500\n2. 2500\n3. 3500",
    "14 200 300\n15 300 400\n16 200 100", "in 2019\n3 apples", "tel 555-867-5309\n555-867-5310 fax",
    "7730517\n7879328\n5990247", "3933431\n 475168\n8857423",
    "a      3950-44372\n27545      b", "[\n  86,\n  4937,\n  76007,\n  156,\n  11\n]",
    "1617847861,\n0.331068", "26308-59619\n44892\ttcp",
    "3  9  27\n4  16  64\n5  25  125\n6  36  216",
    "id,name\n1234567,a\n2345678,b", "1234567\n2345678\n3456789\n", "look at example dot product",
    "I saw it at amazon dot com", "we meet at the dot", "print(f'{x:>10}')  # 1 & 2", "a && b",
    "2 ** 10 ** 3 * 1000 * 1000", "width=40px.a", "?size=40x30.jpg", "0 1 0 1 1 0 1 0 1 1",
    "2024-05-06 10:00:01 17\n2024-05-06 10:00:02 18", "from a import b\n@functools.wraps(c)",
    "MainWindowControllerFactoryBean and some/path/to/another/file_name", "C:\\users\\x40\\u0040",
    "<b>12</b> apples and <i>13</i> pears", "It is 0.333333333333333333333333.",
    "     1  2     1  2  3  4  5  6\n  3  4  5  6  7  8  9     7  8  9 10 11 12 13",
)  # fmt: skip


def revealed(text: str) -> list[str]:
    """What the recognisers of strong forms find in what the views made plain."""
    return [
        seen.text[one.start : one.end]
        for seen in hidden(text)
        for recognizer in STRONG
        for one in recognizer.analyze(text=seen.text, entities=recognizer.supported_entities)
        if one.score >= 0.4 and seen.reveals(one.start, one.end)
    ]


@pytest.mark.parametrize("text", NOT_HIDDEN)
def test_what_is_not_hidden(text: str) -> None:
    assert revealed(text) == []
    assert {seen.kind for seen in hidden(text)} <= {"encoded"}


def test_ordinary_chats_hide_nothing() -> None:
    rows = (row["messages"] for row in chitchat_rows())
    texts = [
        message["content"]
        for _, messages in zip(range(150), rows, strict=False)
        for message in messages
    ]
    assert len(texts) > 1000
    assert [text for text in texts if revealed(text)] == []
    assert sum(bool(hidden(text)) for text in texts) <= len(texts) / 500


def test_code_and_documents_hide_nothing() -> None:
    library = Path(sysconfig.get_path("stdlib"))
    files = [*library.glob("[a-f]*.py"), *Path(__file__).parents[1].glob("*.md")]
    texts = [file.read_text("utf-8", "replace") for file in files]
    assert len(texts) > 40
    assert [found for text in texts for found in revealed(text)] == []


@pytest.mark.parametrize(
    "text",
    ["4 " * 40_000, "four " * 20_000, "a@" * 40_000, "<b>" * 30_000, "=4" * 40_000, "1\n" * 40_000,
     "a b " * 20_000, "%4" * 40_000, "QUJD" * 20_000, "[at] " * 20_000, "x dot " * 15_000,
     "&#" * 40_000, "*1" * 40_000, "A1 " * 30_000, "1 2 3 a@b\n" * 9_000, "-" * 90_000],
)  # fmt: skip
def test_time_is_linear(text: str) -> None:
    def seconds(part: str) -> float:
        start = time.process_time()
        hidden(part)
        return time.process_time() - start

    half = min(seconds(text[: len(text) // 2]) for _ in range(2))
    assert min(seconds(text) for _ in range(2)) < 3.5 * half + 0.05


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("аlice@example.com", "alice@example.com"),
        ("bob@exаmрle.сom", "bob@example.com"),
        ("carοl@example.org", "carol@example.org"),
        ("Привет, сосед", "Привет, сосед"),
        ("Καλημέρα σας", "Καλημέρα σας"),
        ("Wi-Fi сеть и SMS", "Wi-Fi сеть и SMS"),
        ("Pythonизм", "Pythonизм"),
        ("tel ٠٦١٢٣٤٥", "tel 0612345"),
        ("९८४५०१२३४५", "9845012345"),
        ("４１１１", "4111"),
        ("da\u200bve@ex\u00adample.org", "dave@example.org"),
        ("e\u0336v\u0336e\u0336@x.org", "eve@x.org"),
        ("𝐚𝐝𝐚@x.org", "ada@x.org"),
        ("plain \\n text", "plain  \n text"),
    ],
)
def test_the_ordinary_reading(text: str, plain: str) -> None:
    assert view(text).text == plain


def test_nothing_is_built_for_ascii_and_for_one_to_one() -> None:
    assert view("any ASCII").spans is None
    assert view("Grüße, ４").spans is None


def test_a_finding_takes_what_hangs_on_it_and_no_more() -> None:
    for text, value, whole in (
        ("a ze\u200bd@x.org\u0301!", "zed@x.org", "ze\u200bd@x.org\u0301"),
        ("é `zed@x.org`", "zed@x.org", "zed@x.org"),
        ("\u202ezed@x.org\u202c", "zed@x.org", "zed@x.org"),
    ):
        assert slices(text, value, [view(text)]) == {whole}


ALPHABET = 'ab1 4@.:/<>_=-+&#;%\\ux0\n\t"{}é\u0301\u200b\u202e🙂שلا٣аο[at]dot(one'


@given(st.text(alphabet=ALPHABET, max_size=60) | st.text(max_size=60))
def test_every_character_has_its_place_in_order(text: str) -> None:
    for seen in (view(text), *hidden(text)):
        spans = (
            seen.spans if seen.spans is not None else tuple((at, at + 1) for at in range(len(text)))
        )
        assert len(spans) == len(seen.text)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))


@given(st.text(max_size=40))
def test_the_reading_keeps_letters_that_are_not_mixed(text: str) -> None:
    if not any(unicodedata.category(c) == "Cf" for c in text) and text.isalpha():
        scripts = {unicodedata.name(c, "?").split()[0] for c in text}
        if scripts <= {"CYRILLIC"} or scripts <= {"GREEK"}:
            assert view(text).text == unicodedata.normalize("NFKC", text) or len(text) != len(
                unicodedata.normalize("NFKC", text)
            )
