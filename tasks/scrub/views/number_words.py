"""Words for numbers from 0 to 99 in English, German, French, Spanish, Italian, Portuguese and
Dutch, as numbers are dictated: digit by digit, or in pairs. No word has two values; a hyphen
in one is a space.
"""

_DIGITS = (
    "zero one two three four five six seven eight nine",
    "null eins zwei drei vier fünf sechs sieben acht neun",
    "zéro un deux trois quatre cinq six sept huit neuf",
    "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "zero uno due tre quattro cinque sei sette otto nove",
    "zero um dois três quatro cinco seis sete oito nove",
    "nul een twee drie vier vijf zes zeven acht negen",
    "oh ein zwo - - fuenf meia - - -",
    "nought une duas - - - - - - -",
    "o één - - - - - - - -",
)
# From ten to nineteen.
_TEENS = (
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn",
    "dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf",
    "diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve",
    "dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove",
    "dez onze doze treze catorze quinze dezesseis dezessete dezoito dezenove",
    "tien elf twaalf dertien veertien vijftien zestien zeventien achttien negentien",
)
# From twenty to ninety; French ends with sixty and goes on by twenties.
_TENS = (
    "twenty thirty forty fifty sixty seventy eighty ninety",
    "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "vingt trente quarante cinquante soixante",
    "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "twintig dertig veertig vijftig zestig zeventig tachtig negentig",
)

TIMES = {
    "double": 2, "triple": 3, "doppel": 2, "doppelt": 2, "doble": 2, "doppio": 2, "duplo": 2,
    "dubbel": 2, "treble": 3, "dreifach": 3, "triplo": 3, "driedubbel": 3,
}  # fmt: skip


def _compound(language: int, ten: str, unit: int, one: str) -> tuple[str, ...]:
    """How ten and unit are one word, or several."""
    match language:
        case 0:
            return f"{ten}-{one}", f"{ten} {one}"
        case 1:
            return (f"{'ein' if unit == 1 else one}und{ten}",)
        case 2:
            return (f"{ten}-{one}", f"{ten} {one}", f"{ten} et {one}", f"{ten}-et-{one}")
        case 3:
            joined = {"dos": "dós", "tres": "trés", "seis": "séis", "uno": "uno"}.get(one, one)
            return (f"veinti{joined}", f"veinti{one}") if ten == "veinte" else (f"{ten} y {one}",)
        case 4:
            stem = ten[:-1] if unit in (1, 8) else ten
            return f"{stem}{one}", f"{stem}{one.replace('tre', 'tré')}"
        case 5:
            return (f"{ten} e {one}",)
        case _:
            joint = "ën" if one.endswith("e") else "en"
            return (f"{one}{joint}{ten}", f"{one}en{ten}")


def _words() -> dict[str, str]:
    words: dict[str, str] = {}
    for line in _DIGITS:
        for value, word in enumerate(line.split()):
            words[word] = str(value)
    words.pop("-")
    for language, (teens, tens) in enumerate(zip(_TEENS, _TENS, strict=True)):
        words |= {word: str(10 + index) for index, word in enumerate(teens.split())}
        units = _DIGITS[language].split()
        for index, ten in enumerate(tens.split()):
            words[ten] = str(20 + 10 * index)
            for unit in range(1, 10):
                for word in _compound(language, ten, unit, units[unit]):
                    words[word] = str(20 + 10 * index + unit)
    below_twenty = [*_DIGITS[2].split(), *_TEENS[2].split()]
    for start, stem in ((60, "soixante"), (80, "quatre-vingt"), (80, "quatre vingt")):
        words |= {stem: str(start)} | ({f"{stem}s": "80"} if start == 80 else {})
        for value in range(1, 20):
            for joint in ("-", " ", " et ", "-et-"):
                words[f"{stem}{joint}{below_twenty[value]}"] = str(start + value)
    unaccented = str.maketrans(
        {"é": "e", "ê": "e", "í": "i", "ó": "o", "ü": "u", "ö": "o", "ß": "ss", "ë": "e"}
    )
    plain = {word.translate(unaccented): value for word, value in words.items()}
    return {word.replace("-", " "): value for word, value in (plain | words).items()}


WORDS = _words()
# Single words as they stand in a sentence, and those between the words of a compound.
NUMBER_WORDS = frozenset(word + end for word in (*WORDS, *TIMES) for end in ("", ",", ".", ";"))
NUMBER_WORDS |= {"e", "et", "y"}
