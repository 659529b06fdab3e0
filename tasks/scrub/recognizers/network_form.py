"""Whether what was found is an address on a network or a secret."""

import ipaddress
import math
import re
from collections import Counter

from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.network import TLDS
from tasks.scrub.recognizers.surroundings import is_code, numbers_rows

_FILES = (
    "py|pyc|pyx|js|jsx|ts|tsx|mjs|cjs|json|yaml|yml|toml|ini|cfg|conf|md|rst|txt|csv|tsv|xml|html|htm|css|scss|less"
    "|png|jpe?g|gif|svg|webp|ico|pdf|docx?|xlsx?|pptx?|zip|gz|tar|tgz|bz2|xz|whl|jar|war|exe|dll|so"
    "|dylib|bin|sh|bash|bat|ps1|c|h|cc|cpp|hpp|cs|go|rs|rb|java|kt|swift|php|pl|lua|sql|db|log|lock"
    "|env|ipynb|parquet|proto|tf|vue|map|mp[34]|wav|avi|mov"
)
_HOST = re.compile(
    rf"(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?\.){{1,6}}(?:{TLDS}|museum|name|me|it|at|be|in|us|to|cc|ws|fm|im|is|no|la|gl|goo|page|link|eus|cat|swiss|berlin|wien|paris|london|nyc)",
    re.IGNORECASE,
)
_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}://(?P<host>[^\s/?#]+)")
# A host that others reach: neither one label nor the machine itself.
_REACHED = re.compile(r"(?!127\.|0\.0\.0\.0|localhost)(?:[^.\s]+\.)+[^.\s]|\[", re.IGNORECASE)
# Top-level domains that are no word or name in code.
_PLAIN_TLDS = (
    "com|org|net|edu|gov|de|fr|es|nl|ch|se|dk|fi|pl|cz|pt|uk|eu|br|jp|ru|ca|museum|berlin|biz"
)
_CODE_NEAR = re.compile(r"[={}\[\];_]|\w\(|\w\.[A-Z]{2}|['\"],|\w\.\w+, \w+\.\w")
_PATH = re.compile(r"[/?#:]")
_VERSION_WORD = re.compile(
    r"(?:\b(?:version|versions|versión|versione|versão|versie|release|upgrade[sd]?|update[sd]?|downgrade[sd]?|build|bump|firmware|driver|install(?:ed)?|package|v|ver)\b|[=~<>]=)"
    r"[^\n]{0,16}\Z",
    re.IGNORECASE,
)
_ADDRESS_WORD = re.compile(
    r"\b(?:ips?|address|host|server|ping|ssh|rdp|gateway|client|router|from ip)\b", re.I
)
_EMAIL = re.compile(
    r"[^\s@<>]{1,64}(?:@|%40|&#64;|&#x40;|=40|\(at\)|\[at\]|\{at\}|<at>| ?[\[({]? ?(?:at|@"
    r"|arroba|chiocciola|arobase) ?[\])}]? ?)\s?"
    r"[^\s@]{1,64}(?:\s?(?:\.|%2E|&#46;|dot|punto|point|punkt|ponto|punt"
    r"|[\[({] ?dot ?[\])}])\s?[^\s@]{1,63}){1,6}",
    re.IGNORECASE,
)
_NO_MAILBOX = re.compile(
    r"(?:git|svn|hg)@|.*\.(?:" + _FILES + r")$|\d+(?:\.\d+)*@|.*@\d+(?:\.\d+)+", re.I
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_UUID_LIKE = re.compile(r"[0-9A-Za-z]{6,}(?:-[0-9A-Za-z]{4}){3}-[0-9A-Za-z]{6,}")
_HEX = re.compile(r"(?:0x)?[0-9a-f]{6,}", re.IGNORECASE)
_POD = re.compile(
    r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*-[a-z0-9]{4,10}-[a-z0-9]{5}|(?:[a-z]+-)+[0-9a-f]{6,20}"
)
_DIGEST_BEFORE = re.compile(
    r"(?:sha\d{1,3}|md5|integrity|digest|checksum|etag|commit|blob|tree)[-:=\"'\s]{1,4}\Z", re.I
)
_KEY_FORM = re.compile(
    r"(?:A(?:KIA|SIA)|gh[opsur]_|github_pat_|glpat-|sk-|[prs]k_(?:live|test)_|xox\w-|AIza|ya29\.|hf_|npm_|pypi-"
    r"|SG\.|shp\w\w_|do\w_v1_|eyJ|-----BEGIN|\d{8,10}:AA)"
)
_TEMPLATE = re.compile(
    r"^%[sd(]|^\$\{?[A-Za-z_]+\}?$|^\{\{?\w*\}|^<\w+>?$|%s|^\*+$|^x+$|^\.+$|^os\.|^process\.", re.I
)
LEAST_SECRET = 4


def is_url(text: str, start: int, end: int) -> bool:
    """Whether a value is a URL: a scheme and host, www, or a host of a public suffix that is no
    attribute in code and no file."""
    value = text[start:end]
    if parsed := _WITH_SCHEME.match(value):
        is_named = "@" in parsed["host"] or re.search(r"[?&][\w-]+=\w", value)
        return bool(is_named or (_REACHED.match(parsed["host"]) and not _TEMPLATE.search(value)))
    if re.match(r"www\d?\.\w", value, re.IGNORECASE):
        return True
    host = _PATH.split(value, maxsplit=1)[0]
    if not _HOST.fullmatch(host) or re.search(rf"\.(?:{_FILES})$", host, re.IGNORECASE):
        return False
    if len(host) < len(value):
        return True
    if host.count(".") == 1 and not re.search(rf"\.(?:{_PLAIN_TLDS})$", host, re.IGNORECASE):
        return not _CODE_NEAR.search(text, max(start - 30, 0), end + 30)
    if text[end : end + 1] in ("(", "[", "=") or re.match(
        r"\.\w|\s?[-+*/]?=[^=]", text[end : end + 4]
    ):
        return False
    return not is_code(text, start, end) or text[max(start - 1, 0) : start] in "<&"


def is_email(text: str, start: int, end: int) -> bool:
    """Whether a value has a mailbox and a domain, in whatever disguise; no file or repository."""
    value = text[start:end]
    return _EMAIL.fullmatch(value) is not None and _NO_MAILBOX.match(value) is None


def is_ip(text: str, start: int, end: int) -> bool:
    """Whether a value is an IP address or network, and no version."""
    value = text[start:end]
    try:
        address = ipaddress.ip_interface(value.strip("[]"))
    except ValueError:
        return False
    before = text[max(start - 40, 0) : start]
    if address.ip.is_loopback or address.ip.is_unspecified or re.search(r"\w\[\Z", before):
        return False
    if address.version == 4 and _VERSION_WORD.search(before) and not _ADDRESS_WORD.search(before):
        return False
    after = r"[-+]?(?:rc|alpha|beta|dev|post)|[ -]{1,2}(?:release|version|build)\b"
    return not re.match(after, text[end : end + 12], re.IGNORECASE)


def is_mac(text: str, start: int, end: int) -> bool:
    """Whether a value is twelve hexadecimal digits in pairs or fours."""
    return len(re.findall(r"[0-9A-Fa-f]", text[start:end])) in (12, 16)


def is_secret(text: str, start: int, end: int) -> bool:
    """Whether a value opens something: a key by its form, one that a word announces, or random
    characters that are no digest, UUID or name of a machine."""
    value = text[start:end]
    if len(value) < LEAST_SECRET - (value.isdigit() and len(value) == 3):
        return False
    if _TEMPLATE.search(value):
        return False
    if _KEY_FORM.match(value) or text[max(start - 3, 0) : start] == "://":
        return True
    if _HEX.fullmatch(value) and numbers_rows(text, start):
        return False
    if _UUID.fullmatch(value) or _DIGEST_BEFORE.search(text[max(start - 16, 0) : start]):
        return False
    if _UUID_LIKE.search(value) or _is_in_block(text, start, end):
        return False
    if announcing.announces("SECRET", text, start, end):
        return True
    if _HEX.fullmatch(value) or _POD.fullmatch(value):
        return announcing.is_near("SECRET", text, start, end) and len(value) >= 16
    return _looks_random(value) and not is_code(text, start, end)


def _is_in_block(text: str, start: int, end: int) -> bool:
    """Whether the lines beside are base64 too: a certificate, an image, a signature."""
    return bool(
        re.search(r"[A-Za-z0-9+/]{40}\s{1,20}$", text[max(start - 64, 0) : start])
        or re.match(r"\s{1,20}[A-Za-z0-9+/]{40}", text[end : end + 64])
        or re.search(r"\barn:\S{1,100}$", text[max(start - 110, 0) : start])
    )


def _looks_random(value: str) -> bool:
    """Whether the characters are of several kinds and surprising: a passphrase or a token."""
    kinds = sum(
        any(map(kind, value))
        for kind in (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    )
    counts = Counter(value).values()
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return kinds >= 2 and entropy >= 2.5
