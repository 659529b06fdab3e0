"""Whether words that were found are the name of somebody, something or somewhere."""

import re
from functools import cache
from importlib import resources

from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.surroundings import is_code, starts_sentence

_TITLES = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "miss",
        "mx",
        "dr",
        "prof",
        "sir",
        "madam",
        "lord",
        "lady",
        "herr",
        "frau",
        "fräulein",
        "dr.-ing",
        "mme",
        "mlle",
        "m",
        "monsieur",
        "madame",
        "mademoiselle",
        "señor",
        "señora",
        "señorita",
        "sr",
        "sra",
        "srta",
        "don",
        "doña",
        "signor",
        "signora",
        "signorina",
        "sig",
        "dott",
        "dottor",
        "dottoressa",
        "senhor",
        "senhora",
        "dona",
        "meneer",
        "mevrouw",
        "mijnheer",
        "dhr",
        "mevr",
        "jr",
        "st",
    ]
)
_TYPES = frozenset((
    "int", "str", "bool", "float", "none", "null", "nil", "true", "false", "char", "varchar",
        "uuid",
    "any", "bytes", "dict", "integer", "boolean", "bigint", "serial", "required", "optional",
    "undefined", "unknown", "anonymous", "admin", "root", "guest", "default", "self", "this",
))  # fmt: skip
_MODULES = frozenset((
    "os", "sys", "np", "pd", "re", "io", "json", "self", "cls", "this", "logging", "logger", "math",
    "time", "random", "string", "torch", "ctypes", "test", "tests", "ac", "app", "std", "df", "tf",
    "plt", "nn", "fs", "path", "console", "window", "document", "process", "module", "request",
    "response", "session", "support", "socket", "thread", "java", "javax", "org", "com", "net",
))  # fmt: skip
_MIXED = re.compile(r"[a-zß-ÿ][A-ZÀ-Þ]")
_MIXED_NAME = re.compile(
    r"(?:Mc|Mac|De|Di|Du|Da|La|Le|Li|Lo|Van|Von|Fitz|Des|Del|Al|El|Ben|St|O['\u2019]|D['\u2019]|Jo|Ma|Mary|Anne|An|Ke|Ja|Sha|Te|Ra|Ro|Vander?)"
    r"[A-ZÀ-Þ][a-zß-ÿ]+(?:['\u2019]?s)?"
)
_CODE_MARKS = re.compile(r"[={}\\<>\[\]`|;~^*#$%]|\(\)|::|->|//|\w\(|\w_\w")
_DIGIT_IN_WORD = re.compile(r"[^\W\d_]\d|\d[^\W\d_]")
_POSTCODE = re.compile(
    r"\d{4,6}|\d{5}-\d{3,4}|\d{3}[- ]\d{2,4}|\d{4} ?[A-Z]{2}|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
    r"|[A-Z]\d[A-Z] ?\d[A-Z]\d|[A-Z]{1,2}-\d{4,5}"
)


@cache
def common_words() -> dict[str, bool]:
    """{common word: whether it is also somebody's name}, of seven languages."""
    lines = resources.files(__package__).joinpath("common_words.txt").read_text("utf-8")
    words = [line for line in lines.splitlines() if line and not line.startswith("#")]
    return {word.rstrip("*"): word.endswith("*") for word in words}


def is_name(text: str, start: int, end: int, entity: str) -> bool:
    """Whether a value may be a person's or an organisation's name.

    It has letters, is no title or common word alone, and no identifier or other piece of code.
    """
    value = text[start:end]
    words = re.findall(r"[^\W_]+(?:['\u2019.-][^\W_]+)*", value)
    if not any(map(str.isalpha, value)) or not words:
        return False
    if _is_code_name(text, start, end) or all(_is_title(word) for word in words):
        return False
    if entity == "PERSON":
        if _DIGIT_IN_WORD.search(value) or any(_is_mixed(word) for word in words):
            return False
    elif len(words) == 1 and re.fullmatch(r"[a-z]+[A-Z]\w*", words[0]) and len(words[0]) > 10:
        return False
    if entity == "PERSON" and announcing.announces("PERSON", text, start, end):
        return not all(common_words().get(word.casefold()) is False for word in words)
    return not _is_common(text, start, words)


def is_place(text: str, start: int, end: int) -> bool:
    """Whether a value may be a place: it has letters, or is a postcode beside a word that says so
    or beside the name of a town."""
    value = text[start:end]
    if any(map(str.isalpha, value)) and not _POSTCODE.fullmatch(value):
        words = re.findall(r"[^\W_]+(?:['\u2019.-][^\W_]+)*", value)
        return not _is_code_name(text, start, end) and not _is_common(text, start, words)
    if re.fullmatch(r"#?\d{1,6}(?:[-/]\d{1,4})?[A-Za-z]?", value) and announcing.announces(
        "LOCATION", text, start, end
    ):
        return True
    if not _POSTCODE.fullmatch(value):
        return False
    if re.search(r"(?:\w|\w[-./_]|[$€£#=] ?)\Z", text[max(start - 2, 0) : start]):
        return False
    if any(map(str.isalpha, value)) or announcing.is_near("LOCATION", text, start, end):
        return True
    if re.fullmatch(r"(?:19|20)\d\d", value):
        return False
    if len(value) >= 4 and re.search(r"(?:\n\W{0,4}|, )\Z", text[max(start - 6, 0) : start]):
        return re.match(r" [^\W\d_]{3}", text[end : end + 4]) is not None
    return bool(
        re.match(r" [A-ZÀ-Þ][a-zß-ÿ]{2}", text[end : end + 4])
        or re.search(r"(?<!\w)[A-ZÀ-Þ][\w'.-]{2,24},? (?:- )?\Z", text[max(start - 30, 0) : start])
    )


def is_username(text: str, start: int, end: int) -> bool:
    """Whether a value may be the name of an account: one token, no name in code."""
    value = text[start:end]
    bare = value.removeprefix("@")
    if not bare or re.search(r"[\s,;()\[\]{}<>=\"'`|\\]", value) or not re.search(r"\w", bare):
        return False
    if bare.casefold() in common_words() or bare.casefold() in _TYPES or len(bare) < 2:
        return False
    if re.fullmatch(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{7,40}", bare):  # a commit
        return False
    if re.search(r"\s:?=\s\Z", text[max(start - 4, 0) : start]) and not re.search(r"\d", bare):
        return False  # assigned
    if bare.partition(".")[0] in _MODULES and "." in bare:
        return False
    if text[end : end + 1] == "\\":
        return False
    if re.search(r"[/\\](?:home|Users|users)[/\\]\Z", text[max(start - 8, 0) : start]):
        return True
    announced = announcing.announces("USERNAME", text, start, end)
    if re.match(r"\(|\[|::|->|\.\w+\(", text[end : end + 24]):
        return False
    if announced or value.startswith("@") or text[max(start - 1, 0) : start] == "@":
        return any(map(str.isalpha, bare)) or announced
    if is_code(text, start, end) or re.fullmatch(r"\d[\d.,]*", bare):
        return False
    if re.search(r"(?:\w|\w[./\\$-])\Z", text[max(start - 2, 0) : start]):
        return text[max(start - 2, 0) : start] == "u/"
    is_snake = re.fullmatch(r"_*[a-z]+(?:_[a-z]+)+_*|[A-Z]+(?:_[A-Z]+)+|__\w+__", bare)
    is_camel = re.fullmatch(r"[a-z]+(?:[A-Z][a-z]+)+", bare)
    return is_snake is None and is_camel is None


def _is_code_name(text: str, start: int, end: int) -> bool:
    return bool(_CODE_MARKS.search(text, start, end)) or is_code(text, start, end)


def _is_mixed(word: str) -> bool:
    return _MIXED.search(word) is not None and not any(
        _MIXED_NAME.fullmatch(part) for part in re.split(r"[-.]", word) if _MIXED.search(part)
    )


def _is_title(word: str) -> bool:
    return word.casefold().rstrip(".") in _TITLES


def _is_common(text: str, start: int, words: list[str]) -> bool:
    """Whether all the words are common: in small letters, or with a capital that only the start
    of a sentence gives them."""
    folded = [
        piece.casefold()
        for word in words
        for piece in (
            [word] if word.casefold() in common_words() else re.split(r"['\u2019.-]", word)
        )
    ]
    if not all(word in common_words() for word in folded):
        return False
    if all(word.islower() for word in words):
        return True
    if any(common_words()[word] for word in folded):
        return False
    return starts_sentence(text, start)
