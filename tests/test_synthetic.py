"""The invented texts that the detector is trained on and that audits plant."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from data_contracts.findings import Finding, LabelledText
from tasks.scrub.synthetic import arithmetic, corpus, plain, sentences
from tasks.scrub.synthetic.countries import COUNTRIES
from tasks.scrub.synthetic.source import LANGUAGES, by_share, is_for_audits
from tasks.scrub.synthetic.values import ENTITIES, Values
from tasks.scrub.synthetic.vocabulary import Vocabulary, frequent_words, vocabulary

FILES = [*(kind for kind in plain.KINDS if kind != "sentences")]
FILES += [f"sentences_{language}" for language in LANGUAGES]
LEFT_OVER = re.compile(r"\{\{\w|\w\}\}(?!\})|\[[^\[\]]*\|[^\[\]]*\]")


class Recorder:
    """Fills slots and keeps what it filled them with."""

    def __init__(self, values: Values | Vocabulary) -> None:
        self.draw = values.draw
        self._values = values
        self.filled: list[tuple[str, str]] = []

    def value(self, slot: str) -> str:
        value = self._values.value(slot)
        if slot in ENTITIES:
            self.filled.append((ENTITIES[slot], value))
        return value


def labelled(text: LabelledText) -> list[tuple[str, str]]:
    return [(label.entity, text.text[label.start : label.end]) for label in text.labels]


def words_of(texts: Iterator[LabelledText]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text.text)}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("for_audits", [False, True])
def test_every_template_fills_and_its_labels_are_what_the_slots_held(
    language: str, for_audits: bool
) -> None:
    recorder = Recorder(values := Values(11, for_audits=for_audits))
    for template in sentences.templates(for_audits=for_audits, language=language):
        values.country(language)
        recorder.filled.clear()
        text = sentences.fill(template, recorder)
        assert labelled(text) == recorder.filled, template
        assert not re.search(r"\{\{|\}\}\}|(?<!\\)\\[nt]\b", text.text.replace("\\n", "")), template


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_many_templates_with_and_without_somebody(language: str) -> None:
    trained = sentences.templates(for_audits=False, language=language)
    held_out = sentences.templates(for_audits=True, language=language)
    assert len(trained) + len(held_out) >= 150
    assert not {*trained} & {*held_out}
    slots = {slot for one in (*trained, *held_out) for slot in sentences.SLOT.findall(one)}
    wanted = {"nickname", "initials", "handle", "username", "id_number", "iban", "date_of_birth"}
    assert wanted | {"street_address", "postcode", "phone", "organization", "email"} <= slots
    nobody = [one for one in trained if not any(s in ENTITIES for s in sentences.SLOT.findall(one))]
    assert len(nobody) >= 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_and_addresses_are_those_of_the_language(language: str) -> None:
    values = Values(5)
    phones, streets, months = set(), set(), set()
    for _ in range(300):
        values.country(language)
        phones.add(values.value("phone"))
        streets.add(values.value("street_address"))
        months.add(values.value("month"))
    expected = {
        "en": (r"Street|Road|Ave", "May"), "de": (r"stra(ß|ss)e|weg|gasse", "Mai"),
        "fr": (r"^\d.* (rue|avenue|place|chemin)", "mai"), "es": (r"[Cc]alle .*\d|C/", "mayo"),
        "it": (r"^[Vv]ia .*\d", "maggio"), "pt": (r"^Rua .*\d", "maio"),
        "nl": (r"(straat|weg|laan|gracht) \d", "mei"),
    }[language]  # fmt: skip
    assert sum(bool(re.search(expected[0], street)) for street in streets) > 20
    assert expected[1] in months
    assert all(sum(map(str.isdigit, phone)) >= 6 for phone in phones)


def test_every_locale_of_another_language_has_forms_and_a_seed_decides_the_values() -> None:
    others = {
        locale for language, named in LANGUAGES.items() if language != "en" for locale in named
    }
    assert others == set(COUNTRIES)
    drawn = []
    for _ in range(2):
        values = Values(3)
        values.country("nl")
        drawn.append([values.value(slot) for slot in sorted(values.slots)])
    assert drawn[0] == drawn[1]
    with pytest.raises(KeyError):
        Values(3).value("shoe_size")


def test_values_and_vocabulary_for_audits_are_never_trained_on() -> None:
    trained, held_out = Values(1), Values(1, for_audits=True)
    for slot in ("first_name", "last_name", "nickname", "city"):
        for values, expected in ((trained, False), (held_out, True)):
            drawn = [values.value(slot) for _ in range(200)]
            assert sum(is_for_audits(value) == expected for value in drawn) > 190, slot
    words = {
        for_audits: {
            vocabulary_of.value(slot) for slot in ("product", "noun", "tech") for _ in range(400)
        }
        for for_audits in (False, True)
        for vocabulary_of in [Vocabulary(Values(2), for_audits=for_audits)]
    }
    assert words[True]
    assert not words[True] & words[False]


@pytest.mark.parametrize("count", [1, 2, 3, 19, 250])
def test_a_list_is_divided_into_two_parts(count: int) -> None:
    values = [f"value {number}" for number in range(count)]
    parts = [by_share(values, for_audits=for_audits) for for_audits in (True, False)]
    assert sorted((*parts[0], *parts[1])) == sorted(values)
    assert len(parts[1]) >= len(parts[0]) >= (count > 1)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("for_audits", [False, True])
def test_every_plain_template_fills_and_is_labelled_only_with_somebody(
    file: str, for_audits: bool
) -> None:
    values = Values(17, for_audits=for_audits)
    templates = plain.plain_templates(file, for_audits=for_audits)
    assert templates
    assert any(not template.names_somebody for template in templates)
    assert not {*templates} & {*plain.plain_templates(file, for_audits=not for_audits)}
    for template in templates:
        recorder = Recorder(Vocabulary(values, for_audits=for_audits))
        chosen = sentences.choose(template.text, values.draw)
        text = sentences.fill_slots(arithmetic.with_numbers(chosen, values.draw), recorder)
        assert labelled(text) == recorder.filled
        assert template.names_somebody or not text.labels
        assert not re.search(r"\{\{[a-zA-Z_]", text.text), template


@pytest.mark.parametrize("for_audits", [False, True])
def test_plain_texts_are_the_same_for_a_seed_and_name_nobody(for_audits: bool) -> None:
    drawn = list(plain.plain_texts(600, 23, for_audits=for_audits))
    assert drawn == list(plain.plain_texts(600, 23, for_audits=for_audits))
    assert drawn != list(plain.plain_texts(600, 24, for_audits=for_audits))
    assert len(set(drawn)) > 400
    assert not any("@example" in text for text in drawn)


def test_all_kinds_of_plain_text_occur_and_a_fifth_of_technical_ones_has_somebody() -> None:
    assert len(plain.KINDS) >= 24
    drawn = plain.Plain(4, for_audits=False)
    assert {drawn.kind() for _ in range(3000)} == set(plain.KINDS)
    technical = list(plain.technical_texts(1500, 9))
    somebody = sum(bool(text.labels) for text in technical)
    assert 0.12 < somebody / len(technical) < 0.35
    entities = {label.entity for text in technical for label in text.labels}
    assert {"PERSON", "LOCATION", "USERNAME", "SECRET", "PHONE_NUMBER", "DATE_OF_BIRTH"} <= entities


def test_a_problem_speaks_of_one_person_and_its_results_are_right() -> None:
    drawn = plain.Plain(8, for_audits=False)
    checked = 0
    for _ in range(400):
        text = drawn.text("arithmetic", with_somebody=True)
        assert {label.entity for label in text.labels} == {"PERSON"}
        for left, sign, right, result in re.findall(
            r"<<(\d+)([*+])(\d+)=(\d+)>>", text.text.replace(",", "")
        ):
            left, right = int(left), int(right)
            assert int(result) == (left * right if sign == "*" else left + right)
            checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("template", "value"), [("{{7*3}}", None), ("{{a-a}}", "0"), ("{{a+2*b-a-b}} {{b}}", "same")]
)
def test_sums_are_worked_out(template: str, value: str | None) -> None:
    written = arithmetic.with_numbers(template, Values(0).draw)
    if value == "same":
        assert len({*written.split()}) == 1
    else:
        assert written == (value or template)


def test_only_sums_are_worked_out() -> None:
    with pytest.raises(ValueError, match="no sum"):
        arithmetic.evaluate("a**2", {"a": 3})


@pytest.mark.parametrize("language", LANGUAGES)
def test_frequent_words_begin_plain_texts_with_capitals(language: str) -> None:
    assert len(frequent_words(language)) > 300
    assert len(vocabulary()["Noun_de" if language == "de" else "noun"]) > 100


def test_other_languages_have_some_english_beside_and_other_cases() -> None:
    texts = list(sentences.foreign_sentences(900, 31))
    assert [text.text for text in texts[:50]] == [
        text.text for text in sentences.foreign_sentences(50, 31)
    ]
    small = sum(text.text.islower() for text in texts)
    assert 0.1 < small / len(texts) < 0.4
    assert words_of(iter(texts)) >= {"Straße", "rue"} or words_of(iter(texts)) & {"Calle", "via"}


def test_the_corpus_mixes_its_kinds_in_the_stated_shares() -> None:
    texts = list(corpus.corpus(1500, 2))
    assert texts == list(corpus.corpus(1500, 2))
    assert corpus.MIX["technical or plain text"] == 16
    nobody = sum(not text.labels for text in texts) / len(texts)
    assert 0.15 < nobody < 0.45
    for text in texts:
        ends = [0]
        for label in text.labels:
            assert ends[-1] <= label.start < label.end <= len(text.text)
            assert label.entity in {*ENTITIES.values()}
            ends.append(label.end)
    counts = Counter(label.entity for text in texts for label in text.labels)
    assert {*ENTITIES.values()} <= {*counts}


def test_small_values_keep_the_labels_in_place() -> None:
    text = LabelledText("Grüße von Ägidius Ötzi", [])
    found = Finding(10, 22, "PERSON")
    small = sentences.with_small_values(LabelledText(text.text, [found]))
    assert small.text == "Grüße von ägidius ötzi"
    assert labelled(small) == [("PERSON", "ägidius ötzi")]
