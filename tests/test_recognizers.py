"""Each recogniser finds what it is for, leaves alone what only looks like it, and stays quick."""

import re
import time
from typing import Any

import pytest
from presidio_analyzer import EntityRecognizer

from data_contracts import checksums
from data_contracts.policy import EntityRule, ScrubPolicy
from tasks.scrub.recognizers import OURS, recognizers
from tasks.scrub.recognizers.credentials import entropy
from tasks.scrub.recognizers.money import IBAN_LENGTHS

THRESHOLD = 0.4
COUNTRIES = (
    "us", "uk", "au", "ca", "de", "es", "fi", "in", "it", "kr", "ng", "ph", "pl", "se", "sg", "th",
    "tr", "za",
)  # fmt: skip
OTHERS = (
    "MEDICAL_LICENSE", "UK_NINO", "AU_TFN", "CA_SIN", "DE_TAX_ID", "ES_NIF", "ES_NIE",
    "FI_PERSONAL_IDENTITY_CODE", "IN_AADHAAR", "IN_PAN", "IT_FISCAL_CODE", "KR_RRN", "PL_PESEL",
    "SE_PERSONNUMMER", "SG_NRIC_FIN", "TH_TNIN", "TR_NATIONAL_ID", "ZA_ID_NUMBER", "UUID",
    "DATE_TIME",
)  # fmt: skip


def policy(*entities: str, countries: tuple[str, ...] = COUNTRIES) -> ScrubPolicy:
    return ScrubPolicy(
        version=1,
        countries=countries,
        entities={entity: EntityRule(threshold=THRESHOLD) for entity in entities},
    )


OURS_ENTITIES = tuple(dict.fromkeys(kind.ENTITY for kind in OURS))
ALL = recognizers(policy(*OURS_ENTITIES, *OTHERS))
BY_NAME = {recognizer.name: recognizer for recognizer in ALL}


def found(recognizer: EntityRecognizer, text: str, threshold: float = THRESHOLD) -> list[str]:
    """What is found behind the gate, as a scrubber would."""
    gate: Any = recognizer.gate
    if gate is not None and not gate.search(text):
        return []
    results = recognizer.analyze(text, recognizer.supported_entities, None)
    spans = {(one.start, one.end) for one in results if one.score >= threshold}
    return [
        text[start:end]
        for start, end in sorted(spans)
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in spans)
    ]


# What is to be found stands in «».
FOUND = [
    ("EmailRecognizer", "mail to «jo.doe+spam@mail.example.org»."),
    ("EmailRecognizer", "mailto:«JO_DOE@example.co.uk», ok"),
    ("EmailRecognizer", "to='«o'neil@example.museum»'"),
    ("EmailRecognizer", "邮箱 «user@例子.广告» 谢谢"),
    ("EmailRecognizer", "write to «ana@example.org»谢谢"),
    ("EmailRecognizer", "- «a@b.com»,«c@d.com»"),
    ("SpelledEmailRecognizer", "«jo.doe [at] example [dot] org» is mine"),
    ("SpelledEmailRecognizer", "«jo(at)example.com»"),
    ("SpelledEmailRecognizer", "my email is «jo dot doe at gmail dot com»"),
    ("SpelledEmailRecognizer", "write me: «jo @ example . com»"),
    ("IpRecognizer", "from «192.168.1.10» port 22"),
    ("IpRecognizer", "ip is «10.0.0.1»."),
    ("IpRecognizer", "net «10.20.0.0/16»"),
    ("IpRecognizer", "http://«8.8.4.4»:8080/x"),
    ("IpRecognizer", "host «2001:db8:85a3::8a2e:370:7334» down"),
    ("IpRecognizer", "«fe80::1ff:fe23:4567:890a%eth0»"),
    ("IpRecognizer", "it is «::ffff:192.0.2.128»"),
    ("MacRecognizer", "mac «00:1a:2B:3c:4d:5e»,"),
    ("MacRecognizer", "mac «00-1A-2B-3C-4D-5E»."),
    ("MacRecognizer", "mac «001a.2b3c.4d5e» x"),
    ("UrlRecognizer", "see «https://example.org/a?token=x1#y»."),
    ("UrlRecognizer", "(«http://localhost:8080/path_(x)»)"),
    ("UrlRecognizer", "at «www.example.museum/x»!"),
    ("UrlRecognizer", "at «shop.example.co.uk», ok"),
    ("UrlRecognizer", "[link](«ftp://files.example.net/f.txt»)"),
    ("UrlRecognizer", "«bit.ly/3xYz» now"),
    ("UrlRecognizer", "<«example.com:8443/login?next=/a&u=7»>"),
    ("AnyPhoneRecognizer", "ring «(0)30 901820» tonight"),
    ("AnyPhoneRecognizer", "ring «+47 22 85 50 50» tonight"),
    ("AnyPhoneRecognizer", "ring «555.123.4567x89» tonight"),
    ("AnyPhoneRecognizer", "«(+30) 6901 861442»"),
    ("AnyPhoneRecognizer", "my phone: «12 34 56»"),
    ("AnyPhoneRecognizer", "Festnetz «0351/8 04 11 7», abends"),
    ("AnyPhoneRecognizer", "portable «+33·6·39·98·01·44»"),
    ("SpelledPhoneRecognizer", "Handy: «null eins sieben zwei drei vier fünf sechs acht»"),
    ("AnyPhoneRecognizer", "«+1‑555‑010‑4477»"),
    ("AnyPhoneRecognizer", "«07700 900123» or so"),
    ("AnyPhoneRecognizer", "whatsapp me «87654321»"),
    ("AnyPhoneRecognizer", "«5550104477» is mine"),
    ("CardNumberRecognizer", "pay with «2221 0000 0000 0009» please"),
    ("CardNumberRecognizer", "card «6304000000000000000»"),
    ("CardNumberRecognizer", "amex «3782-822463-10005»"),
    ("CardNumberRecognizer", "«5105/1051/0510/5100» on the slip"),
    ("CardNumberRecognizer", "it starts «5105 1051 and ends in 0510 5100»"),
    ("IbanRecognizer", "«NL20.INGB.0001.2345.67»"),
    ("IbanRecognizer", "account «GB82WEST12345698765432»"),
    ("IbanRecognizer", "«DE89 3704 0044 0532 0130 00» 2 days from now"),
    ("IbanRecognizer", "to «nl91abna0417164300»."),
    ("IbanRecognizer", "iban «DE88 3704 0044 0532 0130 00» with a slip"),
    ("WalletRecognizer", "send to «1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa»"),
    ("WalletRecognizer", "«3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy», ok"),
    ("WalletRecognizer", "«bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq»"),
    ("WalletRecognizer", "«BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4»"),
    ("WalletRecognizer", "eth «0x52908400098527886E0F7030069857D2E4169EE7»"),
    ("AwsKeyRecognizer", "id «AKIAQWERTYUIOPASDFGH»"),
    ("KnownKeyRecognizer", "«ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8»"),
    ("KnownKeyRecognizer", "«github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ»"),
    ("KnownKeyRecognizer", "use «sk-proj-a1B2c3D4e5F6g7H8i9J0»."),
    ("KnownKeyRecognizer", "«sk-ant-api03-Zz9-yY8_xX7wW6vV5uU4»"),
    ("KnownKeyRecognizer", "«xoxb-123456789012-abcdefGHIJ»"),
    ("KnownKeyRecognizer", "«AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q»"),
    ("KnownKeyRecognizer", "«sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc»"),
    ("KnownKeyRecognizer", "«123456789:AAabcdefghijABCDEFGHIJ0123456789abc»"),
    ("KnownKeyRecognizer", "«eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl-x»"),
    (
        "PrivateKeyRecognizer",
        "key:\n«-----BEGIN EC PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END EC PRIVATE KEY-----»\n",
    ),
    ("PrivateKeyRecognizer", "«-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B»\n and so on"),
    ("UrlPasswordRecognizer", "postgres://«app:s3cret!»@db.example.net/x"),
    ("PasswordRecognizer", "password: «hunter2»"),
    ("PasswordRecognizer", "Password = '«swordfish»'"),
    ("PasswordRecognizer", 'DB_PASSWORD="«Tr0ub4dor&3»",'),
    ("PasswordRecognizer", "my password is «hunter2!x»."),
    ("PasswordRecognizer", "the password for the wifi is «Sunny-2041», ok"),
    ("PasswordRecognizer", "/ pw: «abc_99xyz»"),
    ("NamedKeyRecognizer", "api_key=«a1b2c3d4e5»"),
    ("NamedKeyRecognizer", '"clientSecret": "«q8w7e6r5»"'),
    ("NamedKeyRecognizer", "the access token is «zz-91-yy-82»"),
    ("NamedKeyRecognizer", "verification code: «938-201»"),
    ("PinRecognizer", "my pin is «4821»"),
    ("PinRecognizer", "cvv «123», exp 10/29"),
    ("BearerRecognizer", "Authorization: Bearer «abcDEF123456.ghi-789=»"),
    ("HighEntropyRecognizer", "use «q7ZtB2xLm9KpR4vNs8WyD3hJ» there"),
    ("HighEntropyRecognizer", "x=«k3v9q2m7x1z8w4p6t5r0y2b7»"),
    ("HighEntropyRecognizer", "secret «9f86d081884c7d659a2feaa0c55ad015»"),
    ("HighEntropyRecognizer", "«aB3dE/fG7hI+jK9lM1nO2pQ4rS6tU8vW0xY=» is base64"),
    ("BirthDateRecognizer", "I was born on «12/05/1990»."),
    ("BirthDateRecognizer", "DOB: «1990-05-12»"),
    ("BirthDateRecognizer", "born «12 May 1990» in York"),
    ("BirthDateRecognizer", "my birthday is «May 12th, 1990»"),
    ("BirthDateRecognizer", "my birthday is on the «3rd of June»"),
    ("BirthDateRecognizer", "geboren am «12. Mai 1990»"),
    ("BirthDateRecognizer", "née le «12 février 1990» à Lyon"),
    ("BirthDateRecognizer", "nacido el «12 de mayo de 1990»"),
    ("BirthDateRecognizer", "«12.05.90» (date of birth)"),
    ("BirthDateRecognizer", "生年月日:«1990年5月12日»"),
    ("BirthDateRecognizer", "birthdate «19900512»"),
    ("HandleRecognizer", "thanks «@jo_doe.99»!"),
    ("HandleRecognizer", "toot «@jo@example.social»"),
    ("UsernameRecognizer", "username: «jodoe»"),
    ("UsernameRecognizer", "my username is «jo_doe99»"),
    ("UsernameRecognizer", "add me on discord: «jo.doe»"),
    ("UsernameRecognizer", "my instagram is @«jo_doe»"),
    ("UsernameRecognizer", "posted by u/«jo-doe-1»"),
    ("UsernameRecognizer", "sono «nuvola_3» su telegram"),
    ("UsernameRecognizer", "su usuario es «lunallena»"),
    ("UsernameRecognizer", "ssh «ilse»@192.0.2.4"),
    ("UsernameRecognizer", "gebruikersnaam: «fietser»"),
    ("PasswordRecognizer", "la contraseña es «Nube#41»"),
    ("PasswordRecognizer", "la mia password è «Gelato77»"),
    ("AddressRecognizer", "«Lindenweg 7b, 04109 Leipzig», bitte"),
    ("AddressRecognizer", "au «14 ter avenue des Acacias, 69003 Lyon»"),
    ("AddressRecognizer", "en «Calle Olmo 8, 3º A, 41004 Sevilla»"),
    ("AddressRecognizer", "in «Viale Europa 22, 00144 Roma»"),
    ("AddressRecognizer", "na «Rua das Flores 31, 4050-262 Porto»"),
    ("AddressRecognizer", "op «Prinsengracht 263-II, 1016 GV Amsterdam»"),
    ("AddressRecognizer", "to «88 Juniper Lane, Apt. 3C»"),
    ("PostBoxRecognizer", "«Postfach 10 11 12»"),
    ("PostBoxRecognizer", "write to «P.O. Box 77»"),
    ("PlateRecognizer", "Kennzeichen: «B-XY 4711»"),
    ("PlateRecognizer", "my license plate is «7KLM204»"),
    ("CheckedIdRecognizer", "NI number «JG 10 37 59 A»"),
    ("CheckedIdRecognizer", "«BOXW310820HNERXN09»"),
    ("CheckedIdRecognizer", "CPF «390.533.447-05»"),
    ("CheckedIdRecognizer", "BSN «111222333»"),
    ("CheckedIdRecognizer", "aadhaar «2341 2341 2346»"),
    ("CheckedIdRecognizer", "numéro de sécu «2 55 08 14 168 025 38»"),
    ("CheckedIdRecognizer", "Steuer-ID «36 574 261 809»"),
    ("CheckedIdRecognizer", "«MRTMTT91D08F205J» thanks"),
    ("CheckedIdRecognizer", "AHV «756.9217.0769.85»"),
    ("CheckedIdRecognizer", "medicare «2123 45670 1»"),
    ("PostcodeRecognizer", "at «SW1A 1AA», London"),
    ("PostcodeRecognizer", "«M1 1AE»"),
    ("PostcodeRecognizer", "postcode «ec1a1bb»"),
    ("PostcodeRecognizer", "Ottawa «K1A 0B1»"),
    ("PostcodeRecognizer", "postcode «1012 AB» Amsterdam"),
    ("PostcodeRecognizer", "New York, NY «10001»"),
    ("PostcodeRecognizer", "«12345-6789»"),
    ("PostcodeRecognizer", "my zip code is «90210»"),
    ("PostcodeRecognizer", "PLZ «10115»"),
    ("ImeiRecognizer", "IMEI «35-209900-176148-1»"),
    ("ImeiRecognizer", "the imei is «490154203237518»."),
    ("VinRecognizer", "«1M8GDM9AXKP042788» is for sale"),
    ("VinRecognizer", "vin «wvwzzz1jz3w386752»"),
    ("SerialNumberRecognizer", "serial number: «C02XK1ZPJG5H»"),
    ("SerialNumberRecognizer", "S/N «12-AB-3456»"),
    ("AccountNumberRecognizer", "my account number is «12-345-678»."),
    ("AccountNumberRecognizer", "Customer no. «A1234567», thanks"),
    ("AccountNumberRecognizer", "order #«48213» is late"),
    ("AccountNumberRecognizer", "account «12345678» please"),
    ("AccountNumberRecognizer", "policy: «AB1234567»"),
    ("AccountNumberRecognizer", "employee id «E-00482» and badge"),
    ("AccountNumberRecognizer", "Kundennummer: «1234 5678» danke"),
    ("SsnRecognizer", "«536-22-1234»"),
    ("SsnRecognizer", "my ssn is «536221234»"),
    ("ItinRecognizer", "«912-71-1234»"),
    ("ItinRecognizer", "itin: «912711234»"),
    ("UsPassportRecognizer", "passport number «C12345678»"),
    ("UsPassportRecognizer", "«123456789» is on my passport"),
    ("UsDriverLicenseRecognizer", "driver's license «D1234567»"),
    ("UsDriverLicenseRecognizer", "DL «H123-4567-8901»"),
    ("NhsRecognizer", "NHS number «943 476 5919»"),
    ("MedicalLicenseRecognizer", "DEA «AB1234563»"),
    ("UkNinoRecognizer", "nino «AA 12 34 56 B»"),
    ("EsNifRecognizer", "dni «55555555K»"),
    ("PlPeselRecognizer", "pesel «44051401359»"),
    ("FiPersonalIdentityCodeRecognizer", "hetu «131052-308T»"),
    ("ItFiscalCodeRecognizer", "cf «RSSMRA85T10A562S»"),
    ("InPanRecognizer", "pan «ABCPE1234F»"),
]

LEFT_ALONE = [
    ("EmailRecognizer", "a @ b, @jo, jo@, foo@bar, x@1.2"),
    ("SpelledEmailRecognizer", "look at amazon dot com, meet at dot point"),
    ("SpelledEmailRecognizer", "we are at it. Dot the i"),
    ("IpRecognizer", "v1.2.3.4, version 1.2.3.4, 1.2.3, 256.1.1.1, 1.2.3.4.5, 10:30:45"),
    ("IpRecognizer", "std::string, dad::add, 12:00, a[1::2], [::1], lz4>=1.7.4.2"),
    ("MacRecognizer", "10:20:30:40:50, 2024-01-02, 00:1a:2b:3c:4d:5e:6f"),
    ("UrlRecognizer", "ok.so what, e.g. this, i.e. that, main.py, read.me, done.it was, a.m./p.m."),
    ("UrlRecognizer", "1.5 and 2.50, jo@example.com, and/or, node.js, U.S.A."),
    ("AnyPhoneRecognizer", "0x20500000206, (0.583120), 0.3.0 (2015-07-29), 0xD0000000"),
    ("AnyPhoneRecognizer", "room 101, it cost 25 dollars, 10:30, 3.14159265"),
    ("AnyPhoneRecognizer", "on 2024-01-15 10:30:22, 15/01/2024, 15.01.2024, 1990-2000"),
    ("AnyPhoneRecognizer", "order 1234567, order number 12345678, $1234567, 12 000 000"),
    ("AnyPhoneRecognizer", "192.168.1.10, 1.2.3, 10.30-11.45, 1,000,000, 52.520008"),
    ("SpelledPhoneRecognizer", "count one two three four five six seven eight nine ten"),
    ("AddressRecognizer", "die Landstraße 66 km lang, via Python 3, in 2020 Main Street was"),
    ("AddressRecognizer", "the road 5 times, Arbeitsplatz 12, Spring 5, place 3, une rue 9"),
    ("PostBoxRecognizer", "box 12, a post box, BP 12"),
    ("PlateRecognizer", "a plate of 12 eggs, plate 5, targa florio"),
    ("CheckedIdRecognizer", "111222333, 2341 2341 2346, 12345678A, 36574261809"),
    ("CheckedIdRecognizer", "aadhaar 2341 2341 2347, CPF 390.533.447-06"),
    ("CardNumberRecognizer", "4111 1111 1111 1112, 12345, 41111111111111111111111"),
    ("IbanRecognizer", "GB82WEST12345698765433, AB12CDEF34567890123, in 2020 we had 10 of them"),
    ("WalletRecognizer", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb 0x1234 bc1qar0srrr7xfkvy5l643lydnw"),
    ("AwsKeyRecognizer", "AKIA, ASIAN food, AKIAshort1234"),
    ("KnownKeyRecognizer", "sk-learn-based-pipelines, ghp_short, eyJust, task-a1"),
    ("PrivateKeyRecognizer", "-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEA7\n"),
    ("UrlPasswordRecognizer", "https://example.org:8080/a@b, http://x/y:z@w"),
    ("PasswordRecognizer", "password is wrong, password: required, I forgot my password, pass 2"),
    ("PasswordRecognizer", "password = getpass(), password=os.environ.x, password: str, pwd: ${X}"),
    ("PasswordRecognizer", "pass the salt, compass: north, the password is incorrect"),
    ("NamedKeyRecognizer", "token: tokenizer, the key is under the mat, secret: unknown, key 12"),
    ("PinRecognizer", "a pin, pin 12, pinned: 1234, spin 1234"),
    ("BearerRecognizer", "bearer of bad news, basic understanding-of-things"),
    ("HighEntropyRecognizer", "550e8400-e29b-41d4-a716-446655440000 d41d8cd98f00b204e98009"),
    ("HighEntropyRecognizer", "/usr/lib/python3/dist-packages/numpy2/core"),
    ("HighEntropyRecognizer", "AbstractSingletonProxyFactoryBean2 CPyBytesWriter_WriteI32LE"),
    ("HighEntropyRecognizer", "src/main/java/App2Test/FooBar1"),
    ("HighEntropyRecognizer", "antidisestablishmentarianism99999"),
    ("HighEntropyRecognizer", "the-quick-brown-fox-jumps-2024 ____________1____________"),
    ("BirthDateRecognizer", "on 12/05/1990 we met, 12 May 2024, version 1.2.3, born 45/99/1990"),
    ("HandleRecognizer", "@cached_thing\n    def f(): ..., @misc{x"),
    ("HandleRecognizer", "@everyone, @property, @angular/core, a@b.com, 5 @ 3, @Test, user@host"),
    ("UsernameRecognizer", "the user is happy: yes, twitter is down = bad, github: great"),
    ("PostcodeRecognizer", "12345, 1000 MB, in 2024 AD, A1 paper, 10.12345, K9 unit, B2B"),
    ("ImeiRecognizer", "490154203237518 once, then much else before imei 490154203237519"),
    ("VinRecognizer", "1M8GDM9A1KP042788, internationalized, 12345678901234567"),
    ("SerialNumberRecognizer", "serial killer 2024, a serial number, Snell1976"),
    ("AccountNumberRecognizer", "in case 2 fails, order 66, policy of 2024, users/6550398/x"),
    ("SsnRecognizer", "000-12-3456, 536221234, 536-00-1234, 536-22-0000, 1-536-22-1234"),
    ("ItinRecognizer", "912-66-1234, 812-71-1234, 912711234"),
    ("UsPassportRecognizer", "C12345678, 123456789"),
    ("UsDriverLicenseRecognizer", "D1234567 and 1234567, License: mt19937"),
    ("NhsRecognizer", "943 476 5919 once, then much else before NHS 943 476 5918"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_found(name: str, text: str) -> None:
    expected = [piece.partition("»")[0] for piece in text.split("«")[1:]]
    assert found(BY_NAME[name], text.replace("«", "").replace("»", "")) == expected


@pytest.mark.parametrize(("name", "text"), LEFT_ALONE)
def test_left_alone(name: str, text: str) -> None:
    assert found(BY_NAME[name], text) == []


def test_every_recogniser_of_ours_is_tested_both_ways() -> None:
    ours = {kind.__name__ for kind in OURS}
    assert ours <= {name for name, _ in FOUND}
    assert ours == {name for name, _ in LEFT_ALONE}


RUNS = (
    "a", "A", "1", " ", ".", "-", "@", ":", "/", "_", "=", "(", "+", "x1", "1 ", "a ", "a.", "a-",
    "a@", "aaaa@", "a.b@", "1.", "1-", "1:", "f:", "::", "ff:", "//", "://", "a://", "http://",
    "w.", "www.", "eyJ", "eyJaaaaaaaa.", "sk-", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "- ",
    "password ", "password: ", "password is ", "pass", "key=", "token is a ", "user: ", "my ig is ",
    "u/", "born 1/1/", "jan 1 ", "1 jan ", "AB12", "GB82 WEST ", "0x", "bc1", "account number ",
    "account 1 2 ", "serial ", "S/N:", "A1 ", "A1A 1A", "1234 AB ", "CA 12345 ", "a at b dot ",
    "dot ", "at ", "a[at]", "+1 ", "555-", "(1)", "SG.aaaaaaaaaaaaaaaa", "\n", "é", "漢", "'a",
    "a'a@", "%", "{", "a[", "12/12/1990 ", "A1b2", "aB3-", "/a1B2", "[", "A:B", "1AA:",
)  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_time_is_linear_in_length(run: str) -> None:
    """Where it is not, this takes minutes; where it is, a second, or a few on a busy machine."""
    text = run * (200_000 // len(run)) + "!"
    for recognizer in ALL:
        start = time.process_time()
        recognizer.analyze(text, recognizer.supported_entities, None)
        took = time.process_time() - start
        assert took < 20, (recognizer.name, run, took)


def test_a_policy_chooses() -> None:
    few = recognizers(policy("EMAIL_ADDRESS", "US_SSN", "UK_NHS", "PERSON", countries=("us",)))
    assert {one.name for one in few} == {
        "EmailRecognizer",
        "SpelledEmailRecognizer",
        "SsnRecognizer",
    }
    assert all(hasattr(one, "gate") for one in ALL)
    assert len({one.name for one in ALL}) == len(ALL)


def test_equal_gates_are_one_object() -> None:
    gates = [one.gate for one in ALL if isinstance(one.gate, re.Pattern)]
    assert len({id(gate) for gate in gates}) == len({gate.pattern for gate in gates})


def test_a_context_word_raises_the_score_from_either_side_but_not_from_afar() -> None:
    ssn = BY_NAME["SsnRecognizer"]
    assert found(ssn, "536221234 (SSN)")
    assert found(ssn, "my_ssn 536221234")
    assert not found(ssn, "ssn" + " or" * 20 + " 536221234")
    assert not found(ssn, "lessnoise 536221234")


def test_check_digits() -> None:
    assert checksums.luhn("4111111111111111")
    assert not checksums.luhn("4111111111111112")
    assert checksums.iban("GB82WEST12345698765432")
    assert checksums.nhs("9434765919")
    assert checksums.vin("11111111111111111")
    assert checksums.base58check("1BoatSLRHtKNngkdXEeobR76b53LETtpyT")
    assert checksums.bech32("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0")
    assert not checksums.bech32("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj1")
    assert IBAN_LENGTHS["GB"] == 22
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
