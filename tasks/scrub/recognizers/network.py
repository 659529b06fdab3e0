"""Addresses on networks: e-mail, IP, MAC, URL."""

import ipaddress
import re

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import DIGIT, ContextPatternRecognizer

# Top-level domains that a bare name is believed by. Those that are words or endings of files
# (.so, .it, .py, .md) are not among them: "ok.so what" has no address in it.
TLDS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|dev|app|xyz|online|shop|site|tech|cloud|blog|eu|uk"
    "|de|fr|es|nl|ch|se|dk|fi|pl|cz|sk|hu|ro|bg|gr|pt|ie|lu|lt|lv|ee|hr|rs|ua|ru|by|kz|tr|il|ae|sa"
    "|ir|eg|za|ng|ke|gh|ma|tn|jp|cn|kr|tw|hk|sg|my|th|vn|ph|pk|bd|lk|np|au|nz|ca|mx|br|ar|cl|co|pe"
    "|ve|ec|uy|ai|tv|gg|ly"
)
_AFTER_URL = ".,;:!?'*_|\\"
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"


class EmailRecognizer(ContextPatternRecognizer):
    """E-mail addresses, of any top-level domain, in any script."""

    ENTITY = "EMAIL_ADDRESS"
    PATTERNS = (
        Pattern(
            "e-mail",
            r"[\w.+%&~'-](?<![\w.+%&~'-].)[\w.+&~'-]*+(?:%(?!40)[\w.+&~'-]*+){0,8}(?:@|%40|&#64;)(?:[^\W_][\w-]{0,62}\.){1,8}"
            r"(?:[a-z]{2,24}(?![a-z0-9-])|[^\W\d_][\w-]{1,62})",
            1.0,
        ),
    )
    gate = re.compile(r"@|%40|&#64;")

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """Without a quotation mark, a bullet or the like before it."""
        return match.end() - len(match[0].lstrip("'.-&~%")), match.end()

    def weigh(self, value: str, score: float) -> float:
        return 0 if value.startswith("@") else score


class SpelledEmailRecognizer(ContextPatternRecognizer):
    """E-mail addresses hidden from machines: 'jo at example dot org', 'jo [at] example.org'."""

    ENTITY = "EMAIL_ADDRESS"
    _DOT = r"(?: ?[\[({] ?(?:dot|\.) ?[\])}] ?| dot | ?\. ?)"
    PATTERNS = (
        Pattern(
            "spelled",
            r"[\w+-](?<![\w.+-].)(?:[\w+-]|\.(?=[\w+-])| (?:dot|underscore|dash) ){0,63}+"
            r" ?(?:[\[({<] ?(?:at|@) ?[\])}>]| at | ?@ ?) ?"
            rf"(?:[a-z0-9][a-z0-9-]{{0,62}}{_DOT}){{1,4}}(?:{TLDS})(?![\w-])",
            0.3,
        ),
    )
    CONTEXT = ("email", "e-mail", "mail", "gmail", "contact", "reach", "write", "address")
    gate = re.compile(r"@ |dot|Dot|DOT|at\]|at\)|AT\]|AT\)")

    def weigh(self, value: str, score: float) -> float:
        return 0.75 if re.search(r"[\[({<] ?(?:at|@|dot)|@", value, re.IGNORECASE) else score


class IpRecognizer(ContextPatternRecognizer):
    """IPv4 and IPv6 addresses, with the length of a prefix; not numbers of versions."""

    ENTITY = "IP_ADDRESS"
    PATTERNS = (
        Pattern(
            "IPv4",
            r"\d(?<![\w.]\d)(?<!version \d)(?<![<>=~]=\d)\d{0,2}(?:\.\d{1,3}){3}"
            r"(?:/\d\d?)?(?!\.?\d|\w)",
            0.9,
        ),
        Pattern(
            "IPv6",
            r"[0-9a-f:](?<![\w:.].)[0-9a-f]{0,3}(?::[0-9a-f]{0,4}){1,7}"
            r"(?:\.\d{1,3}){0,3}(?:%\w{1,15})?(?:/\d{1,3})?(?![\w:]|\.\d)",
            0.9,
        ),
    )
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        if 0 < value.count(":") < 2:
            return 0
        try:
            ipaddress.ip_interface(value)
        except ValueError:
            return 0
        # Neither a slice, `1::2`, nor words around a scope, `ad::be`.
        long = sum(map(str.isalnum, value)) >= 4
        return score if long and any(map(str.isdigit, value)) else 0


class MacRecognizer(ContextPatternRecognizer):
    """MAC addresses: 00:1a:2b:3c:4d:5e, 00-1A-2B-3C-4D-5E, 001a.2b3c.4d5e."""

    ENTITY = "MAC_ADDRESS"
    PATTERNS = (
        Pattern(
            "pairs",
            r"[0-9a-f](?<![\w:-].)[0-9a-f](?::[0-9a-f]{2}){5}(?![\w:])"
            r"|[0-9a-f](?<![\w:-].)[0-9a-f](?:-[0-9a-f]{2}){5}(?![\w-])",
            0.9,
        ),
        Pattern("fours", r"[0-9a-f](?<![\w.].)[0-9a-f]{3}(?:\.[0-9a-f]{4}){2}(?![\w.])", 0.8),
    )
    gate = DIGIT


class UrlRecognizer(ContextPatternRecognizer):
    """URLs with a scheme or www, and bare names of hosts, all with path and query."""

    ENTITY = "URL"
    _REST = r"""(?::\d{1,5})?(?:[/?#][^\s<>"`]*+)?"""
    PATTERNS = (
        Pattern(
            "scheme",
            r"[A-Za-z](?<![^\W_].)[A-Za-z][A-Za-z0-9+.-]{0,14}+://[^\s<>\"`]++",
            0.9,
        ),
        Pattern("www", rf"[wW](?<![\w@.-].)[wW]{{2}}\d?(?:\.{_LABEL}){{1,6}}{_REST}", 0.9),
        Pattern(
            "host",
            r"[A-Za-z0-9](?<![\w@./:-].)(?:[A-Za-z0-9-]{0,62}+\.){1,5}"
            rf"(?:(?i:{TLDS})(?![\w@-]|\.\w){_REST}|[A-Za-z]{{2,18}}/[\w~%?#][^\s<>\"`]*+)",
            0.6,
        ),
    )
    FLAGS = 0
    gate = re.compile(r"\.[^\W\d_][\w-]|://")

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        """Without the punctuation of the sentence around it."""
        url = match[0].rstrip(_AFTER_URL)
        for opening, closing in ("()", "[]", "{}"):
            extra = url.count(closing) - url.count(opening)
            while extra > 0 and url.endswith(closing):
                url, extra = url[:-1].rstrip(_AFTER_URL), extra - 1
        return match.start(), match.start() + len(url)
