"""What opens doors: keys, tokens, passwords."""

import math
import re
import string
from collections import Counter
from itertools import pairwise

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import DIGIT, THREE_DIGITS, ContextPatternRecognizer, names

_QUOTE = r"[\"'`*]{0,3}"
_SIGN = rf"{_QUOTE}\s{{0,2}}(?:is[:=]|was[:=]|=>|:=|={{1,2}}|:){_QUOTE}\s{{0,2}}{_QUOTE}"
_IS = (
    rf"(?:[^\S\n][a-z]{{1,12}}){{0,4}}?[^\S\n](?:is|was|to|ist|lautet|est|es|è"
    rf"|é)(?: set to)?\s{_QUOTE}"
)
_VALUE = r"(?P<datum>[^\s\"'`<>]{4,256})"
_PASSWORD_NAMES = names(
    "pass(?:word|wd|code|phrase|wort)", "pass[ -]code", "pwd?", "kennwort", "contrase[ñn]a",
        "clave",
    "mot de passe", "mdp", "wachtwoord", "senha", "palavra[ -]passe", "parola d['\u2019]ordine",
    "parola chiave", "zugangscode", "toegangscode",
)  # fmt: skip
_KEY_NAMES = names(
    "secret", "token",
    *(
        rf"{kind}(?:[ _-]?(?:access|client|api))?[ _-]?(?:key|token|secret|code)"
        for kind in (
            "secret", "api", "access", "auth", "authentication", "refresh", "session", "client",
            "private", "encryption", "signing", "account", "master", "licen[cs]e", "product",
            "activation", "webhook", "personal", "wifi", "wi-fi", "security", "recovery",
            "verification", "otp", "2fa",
        )
    ),
)  # fmt: skip
_CODE = re.compile(r"[\w\]]\(|\w\[|^\$?\{|^\$\w|^\w+\.\w+\.\w+$|->|::")
# What else follows the word: 'password: required', 'the password is wrong'.
_NO_SECRETS = frozenset((
    "required", "string", "none", "null", "true", "false", "must", "your", "this", "that", "these",
    "please", "forgot", "reset", "change", "minimum", "should", "undefined", "example", "here",
    "enter", "hidden", "optional", "text", "varchar", "with", "from", "what", "when", "have",
    "will", "bool", "boolean", "char", "bytes", "empty", "missing", "invalid", "incorrect", "wrong",
    "correct", "changed", "expired", "secure", "strong", "weak", "same", "different", "nothing",
    "unknown", "redacted", "password", "secret", "token", "manager", "protected", "field", "input",
    "hash", "hashed", "falsch", "richtig", "faux", "incorrecta", "incorrecto", "correcta",
        "sbagliata",
    "errata", "errada", "incorreta", "verkeerd", "fout", "vergessen", "oublié", "olvidada",
        "primaria",
    "foránea", "importante", "para", "sehr", "nicht", "niet", "muito", "molto", "trop", "très",
))  # fmt: skip


class AwsKeyRecognizer(ContextPatternRecognizer):
    """Access key ids of Amazon Web Services."""

    ENTITY = "SECRET"
    PATTERNS = (Pattern("AWS", r"A(?<!\wA)(?:KIA|SIA)[A-Z0-9]{16}(?!\w)", 0.95),)
    FLAGS = 0
    gate = re.compile(r"AKIA|ASIA")


class KnownKeyRecognizer(ContextPatternRecognizer):
    """Keys that say whose they are; forms as in https://github.com/gitleaks/gitleaks."""

    ENTITY = "SECRET"
    PATTERNS = (
        Pattern("GitHub", r"gh(?<!\wgh)[opsur]_\w{20,}", 0.95),
        Pattern("GitHub, fine-grained", r"github_pat_\w{20,}", 0.95),
        Pattern("GitLab", r"glpat-[\w-]{16,}", 0.95),
        Pattern("OpenAI, Anthropic", r"sk-(?<!\wsk-)[\w-]{16,}", 0.95),
        Pattern("Stripe", r"[prs]k_(?<!\w.k_)(?:live|test)_\w{10,}", 0.95),
        Pattern("Slack", r"xox[abeoprs]-[\w-]{10,}", 0.95),
        Pattern("Google", r"AIza(?<!\wAIza)[\w-]{30,40}", 0.95),
        Pattern("Google OAuth", r"ya29\.[\w-]{20,}", 0.95),
        Pattern("Hugging Face", r"hf_(?<!\whf_)[A-Za-z0-9]{30,}", 0.95),
        Pattern("npm", r"npm_(?<!\wnpm_)[A-Za-z0-9]{30,}", 0.95),
        Pattern("PyPI", r"pypi-[\w-]{40,}", 0.95),
        Pattern("SendGrid", r"SG\.(?<!\wSG\.)[\w-]{16,}+\.[\w-]{16,}", 0.95),
        Pattern("Shopify", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", 0.95),
        Pattern("DigitalOcean", r"do[opr]_v1_[0-9a-f]{40,}", 0.95),
        Pattern("Telegram", r"\d(?<!\d\d)\d{7,9}:AA[\w-]{33}(?!\w)", 0.95),
        Pattern("JWT", r"eyJ(?<![\w-]eyJ)[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?", 0.95),
    )
    FLAGS = 0
    gate = re.compile(r"[\d_]")

    def weigh(self, value: str, score: float) -> float:
        """Words joined by hyphens are no key: 'sk-learn-based-pipeline'."""
        return score if any(not (c.islower() or c in "-_") for c in value) else 0


class PrivateKeyRecognizer(ContextPatternRecognizer):
    """Private keys in PEM, to their end or as far as lines of base64 go."""

    ENTITY = "SECRET"
    PATTERNS = (
        Pattern(
            "PEM",
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?:[^-]|-(?!----))*+-----END [A-Z0-9 ]{0,40}-----"
            r"|(?:\s{0,4}[A-Za-z0-9+/=]{16,}+)*+)",
            1.0,
        ),
    )
    FLAGS = 0
    gate = re.compile(r"-----BEGIN")


class UrlPasswordRecognizer(ContextPatternRecognizer):
    """User and password in a URL: postgres://user:password@host."""

    ENTITY = "SECRET"
    PATTERNS = (
        Pattern("URL", r"://(?P<datum>[^\s:/@\"'<>]{0,64}+:[^\s/@\"'<>]{1,128}+)@(?=[\w\[])", 0.95),
    )
    gate = re.compile(r"://")


class AssignedRecognizer(ContextPatternRecognizer):
    """What stands after its name, without the punctuation of the sentence around it."""

    ENTITY = "SECRET"

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        start, end = match.span("datum")
        return start, start + len(match.string[start:end].rstrip(".,;:!?)]}|*"))


class PasswordRecognizer(AssignedRecognizer):
    """Passwords: 'password: x' whatever x is; 'my password is x' where no word looks like x."""

    PATTERNS = (
        Pattern("password: x", rf"(?:{_PASSWORD_NAMES}|(?<![^\W_])pass){_SIGN}{_VALUE}", 0.7),
        Pattern("password is x", _PASSWORD_NAMES + _IS + _VALUE, 0.6),
        Pattern("password x", rf"{_PASSWORD_NAMES},? {_QUOTE}{_VALUE}", 0.5),
    )
    gate = re.compile(
        r"pass|Pass|PASS|pw|PW|Pw|wort|WORT|ontras|achtw|enha|lave|mdp|MDP|arola|angscode"
    )

    def weigh(self, value: str, score: float) -> float:
        if value.casefold() in _NO_SECRETS or _CODE.search(value):
            return 0
        inside = value.strip(string.punctuation)
        if any(not (character.isalpha() or character in "-'/.,") for character in inside):
            return score
        return score - 0.2 if len(inside) >= 4 else 0


class NamedKeyRecognizer(AssignedRecognizer):
    """Keys, tokens and secrets after their names, with a digit in them: 'api_key=x1y2z3'."""

    PATTERNS = (
        Pattern(
            "key: x",
            rf"{_KEY_NAMES}(?:{_SIGN}|{_IS})(?P<datum>[^\s\"'`<>]{{6,512}})",
            0.65,
        ),
    )
    gate = re.compile(r"token|Token|TOKEN|secret|Secret|SECRET|key|Key|KEY|code|Code|CODE")

    def weigh(self, value: str, score: float) -> float:
        return score if re.search(r"\d", value) and not _CODE.search(value) else 0


class PinRecognizer(AssignedRecognizer):
    """PINs and the check values of cards after their names."""

    PATTERNS = (
        Pattern(
            "pin: 4821",
            names("pin(?:[ -]?(?:code|number))?", "cv[vc]2?", "passcode", "security code")
            + r"(?: ?[:=] ?| is | was |,? )(?P<datum>\d{3,8})(?!\w)",
            0.8,
        ),
    )
    gate = THREE_DIGITS


class BearerRecognizer(AssignedRecognizer):
    """Credentials of an HTTP Authorization header (RFC 9110, section 11.6.2)."""

    PATTERNS = (
        Pattern(
            "bearer x",
            names("bearer", "basic", "digest", "x-api-key:") + r"\s{1,2}(?P<datum>[\w.~+/=-]{16,})",
            0.65,
        ),
    )
    gate = re.compile(r"[bB]earer|BEARER|Basic|Digest|-[kK]ey:")

    def weigh(self, value: str, score: float) -> float:
        return score if re.search(r"[\d=]", value) else 0


class HighEntropyRecognizer(ContextPatternRecognizer):
    """Tokens of 24 and more letters and digits that look drawn at random.

    Random base 62 has 4 bits and more a character by Shannon's measure and changes between
    cases and digits more often than not; words, paths and identifiers do neither. Digests in
    hexadecimal and the like are believed only where a word says what they are.
    """

    ENTITY = "SECRET"
    PATTERNS = (
        Pattern("token", r"[A-Za-z0-9](?<![\w/+.@%#-].)[A-Za-z0-9+/_-]{23,}+={0,2}(?!\()", 0.6),
    )
    CONTEXT = (
        "key", "token", "secret", "password", "passwd", "pwd", "credential", "bearer", "auth",
        "authorization", "api", "apikey",
    )  # fmt: skip
    FLAGS = 0
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        start = value[:256]
        letters = re.sub(r"[^A-Za-z0-9]", "", start)
        if not re.search(r"\d", letters) or not re.search(r"[A-Za-z]", letters):
            return 0
        if re.fullmatch(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", value):
            return 0
        if re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", value):
            return 0.3 if len(value) >= 32 else 0
        pieces = re.split(r"[^A-Za-z0-9]+", start)
        words = sum(len(p) for p in pieces if re.fullmatch(r"[A-Z]?[a-z]+|[A-Z]+|\d+", p))
        mixed = letters.lower() != letters != letters.upper()
        if mixed:
            words = max(words, sum(map(len, re.findall(r"[a-z]{4,}", letters))))
        if words > 0.35 * len(letters) or entropy(letters) < (3.5 if mixed else 3.3):
            return 0
        return score if changes(letters) >= (0.35 if mixed else 0.25) else 0


def entropy(text: str) -> float:
    """Shannon's entropy of the characters of a text, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def changes(text: str) -> float:
    """Share of neighbours of which one is a digit, upper or lower case and the other is not."""
    kinds = re.sub(r"\d", "0", re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", text)))
    return sum(a != b for a, b in pairwise(kinds)) / max(len(kinds) - 1, 1)
