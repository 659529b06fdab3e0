"""What stands around a number or word, and what that makes of it: a formula, code, a table.

Every function takes a text and the characters [start, end) of a value in it, and looks a bounded
number of characters to either side.
"""

import re

# What an operator may stand after: a number, a bracket or a variable, no word.
_TERM = r"(?:\d|\)|\b[a-zA-Z])"
_OPERATORS_BEFORE = re.compile(
    rf"(?:[=\u00d7÷^√≈≤≥±\u2217]|\w [<>]|{_TERM}\s?(?:[-+\u2212/·%]|\*{{1,2}})"
    r"|\\(?:times|div|cdot|frac|pm))[ ({\[$*]*\Z"
)
_OPERATORS_AFTER = re.compile(
    r"[ )}\]]{0,3}(?:[\u00d7÷^√≈≤≥±\u2217%]|=(?!\w{0,3}[\"'])|[<>] ?\d"
    r"|\*{1,2} ?[\d(]|\*{1,2} [a-z]\b"
    r"|\\(?:times|div|cdot|pm)|[-+\u2212] ?[\d(]|[-+\u2212] [a-z]\b|/ ?\d|!(?= ?[=/*)]))"
)
# Fields of JSON, YAML and logs, as programs write them.
_ROW_FIELD = re.compile(
    r"(?:(?:^|[\n{,])[\s\"'-]{0,24}|\b(?:request|trace|span|session|job|build|item|product|parent|row|record"
    r"|message|event|run|task|node|pod|commit|group|thread|process|correlation|object|document|page"
    r"|chat|channel|queue|batch|block|chunk|file|image|instance|resource|worker)[_ -]?)"
    r"(?:id|ids|uid|uuid|sku|key|seq|hash|pid|tid|sha|digest|etag|number)[\"']?\s{0,2}[:=]\s{0,2}[\"']?\Z"
)
_CURRENCY = "$€£¥₹₽₩₺₫"
_UNIT_AFTER = re.compile(
    r"\s?(?:[%°€$£¥₹₽‰]|(?:[kKMGTPE]i?[Bb]|[kmcdµn]?[mgLlsWVAJN]|[mk]?Hz|[KMG]Hz|bytes?|bits?|bps|px|em|rem|pt|dpi|fps"
    r"|ms|µs|ns|secs?|seconds?|minutes?|hours?|days?|weeks?|months?|years?|miles?|km/?h?|kg|lbs?|oz|ft"
    r"|feet|inch(?:es)?|meters?|metres?|dollars?|euros?|pounds|cents?|EUR|USD|GBP|CHF|JPY|INR|rows?"
    r"|items?|records?|users?|people|persons?|inhabitants|points?|times|units?|pieces?|lines?|words"
    r"|tokens?|steps|percent|Prozent|Euro|Einwohner|habitants?|habitantes|abitanti|inwoners|Stück"
    r"|million\w*|billion\w*|thousand|Mio|Mrd|kcal|cal|kWh|Wh|mAh|rpm|ppm|sq)\b)"
)
_NUMBER_BESIDE = re.compile(r"[-+]?\d[\d.,:/-]*[%a-z]{0,2}")
_OPERATION = re.compile(r"\d\s[-+*/\u00d7\u00f7=\u2212]\s\d")
_COLUMN = re.compile(r"[ \t|+\-*=]{0,12}\d[\d.,]*[ \t|]{0,12}")
_CODE_BEFORE = re.compile(
    r"(?:[\w)\]]\.|->|::|\$|[\w\])]\(|</?|\w\[|\b(?:def|class|import|const|let|var|struct|enum"
    r"|namespace|typedef|extends|implements)\s)\Z"
)
_CODE_AFTER = re.compile(
    r"\(|::|->|\[|\s?[=!]=|\s?[-+*/|&]?=[^=\s\"']|\s=\s|_|\.[a-z_]\w*[(=]|>\(|\\_"
)
_SENTENCE_START = re.compile(r"(?:^|[.!?:\u2026\n>*#\"'\u201c\u201e\u00ab(|-]|\d[.)])\s*\Z")
_TIMESTAMP_NEIGHBOUR = re.compile(
    r"^[T ,]{1,2}\[?\d\d:\d\d|^T\d\d|^ \d\d\.\d\d\.\d\d|^[ ,]+\[?(?:DEBUG|INFO|WARN|ERROR"
    r"|TRACE|FATAL|CRITICAL|NOTICE)"
)


def is_in_formula(text: str, start: int, end: int) -> bool:
    """Whether an operator of arithmetic or comparison touches a number, or a space apart."""
    return bool(
        _OPERATORS_BEFORE.search(text[max(start - 12, 0) : start])
        or _OPERATORS_AFTER.match(text, end, end + 12)
    )


def numbers_rows(text: str, start: int) -> bool:
    """Whether the field before a value numbers rows, requests or runs, and no people."""
    return _ROW_FIELD.search(text[max(start - 40, 0) : start]) is not None


def is_amount(text: str, start: int, end: int) -> bool:
    """Whether a currency sign or a unit stands beside a number."""
    before = text[max(start - 5, 0) : start].rstrip()
    return (
        bool(before) and (before[-1] in _CURRENCY or before.endswith(("EUR", "USD", "GBP", "CHF")))
    ) or _UNIT_AFTER.match(text, end) is not None


def is_part_of_token(text: str, start: int, end: int) -> bool:
    """Whether a letter, digit or underscore touches the value, directly or through a mark that
    joins parts of a version, path, hash, UUID or identifier."""
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    return bool(
        re.search(r"(?:\w|\w[-./\\@]|\d[:,]|[#\\])\Z", before)
        or re.match(r"\w|[-/\\@]\w|[.:,]\d|\.[a-z]", after)
    )


def is_among_numbers(text: str, start: int, end: int) -> bool:
    """Whether other numbers stand in the same row, list or column: a table of plain numbers."""
    left = re.search(r"(\S{1,24})[ \t]*[|,;]?[ \t]*\Z", text[max(start - 30, 0) : start])
    right = re.match(r"[ \t]*[|,;]?[ \t]*(\S{1,24})", text[end : end + 30])
    beside = [side[1].strip("|,;()[]") for side in (left, right) if side]
    if any(_NUMBER_BESIDE.fullmatch(word) for word in beside if word):
        return True
    row = _line_before(text, start)
    return (
        row.rstrip().endswith("|")
        and text[end : end + 12].lstrip(" ")[:1] == "|"
        and re.fullmatch(r"[\d\s]+", text[start:end]) is not None
    )


def holds_operator(value: str) -> bool:
    """Whether an operator of arithmetic stands between two numbers, with spaces about it."""
    return _OPERATION.search(value) is not None


def is_in_column(text: str, start: int, end: int) -> bool:
    """Whether a number stands alone in its line, and another in the line above or below."""
    first = text.rfind("\n", 0, start) + 1
    after = text.find("\n", end)
    last = len(text) if after < 0 else after
    if not _COLUMN.fullmatch(text, first, last):
        return False
    above = text[max(text.rfind("\n", 0, max(first - 1, 0)) + 1, first - 40) : max(first - 1, 0)]
    below = text[last + 1 : last + 40].partition("\n")[0]
    return any(_COLUMN.fullmatch(line) for line in (above, below))


def _line_before(text: str, start: int) -> str:
    """What stands before a value in its line, of up to 80 characters."""
    return text[max(start - 80, 0) : start].rpartition("\n")[2]


def starts_sentence(text: str, start: int) -> bool:
    """Whether a sentence, a quotation or an item of a list starts at a character."""
    return _SENTENCE_START.search(text[max(start - 4, 0) : start]) is not None


def is_code(text: str, start: int, end: int) -> bool:
    """Whether a word is called, assigned, indexed or taken of something: a name in code."""
    return bool(
        _CODE_BEFORE.search(text[max(start - 12, 0) : start])
        or _CODE_AFTER.match(text[end : end + 24])
    )


def is_timestamp(text: str, end: int) -> bool:
    """Whether a time of day or the level of a line in a log follows a date that ends here."""
    return _TIMESTAMP_NEIGHBOUR.match(text[end : end + 24]) is not None
