"""Who somebody is: dates of birth and names of accounts."""

import re

from presidio_analyzer import Pattern

from tasks.scrub.recognizers.base import AT, DIGIT, ContextPatternRecognizer, names

_MONTH = (
    names(
        "jan", "feb", "fév", "mar", "mär", "mrt", "maa", "apr", "abr", "avr", "may", "mai", "mei",
        "maj", "mag", "jun", "jui", "jul", "giu", "lug", "aug", "ago", "aoû", "sep", "set", "oct",
        "okt", "out", "ott", "nov", "dec", "dez", "dic", "déc", "dés", "gen", "ene",
    )
    + r"[a-zéûç]{0,9}\.?"
)  # fmt: skip
_MONTH_AFTER = _MONTH.replace(r"(?<![^\W_])", "", 1)
_ORDINAL = r"(?:st|nd|rd|th|er|\.|º)?"
_YEAR = r"['\u2019]?(?:\d{4}|\d\d)(?!\d)"


class BirthDateRecognizer(ContextPatternRecognizer):
    """Dates near a word for birth, in numbers or written out, with or without the year."""

    ENTITY = "DATE_OF_BIRTH"
    PATTERNS = (
        Pattern(
            "numbers",
            r"\d(?<![\d./-]\d)\d?(?:\d\d)?(?:[-./]\d\d?[-./]|\. ?\d\d?\. ?| \d\d? )\d{2,4}"
            r"(?![./-]?\d)",
            0.2,
        ),
        Pattern("digits alone", r"[12](?<!\d.)[09]\d\d[01]\d[0-3]\d(?!\d)", 0.1),
        Pattern(
            "day and month",
            rf"\d(?<!\d\d)\d?{_ORDINAL}(?: of| de)?[ /-]?{_MONTH_AFTER}"
            rf"(?:(?:,? (?:de |of |del )?|-|/){_YEAR})?(?!\w)",
            0.2,
        ),
        Pattern(
            "month and day",
            rf"{_MONTH}[ /-](?:the )?[0-3]?\d{_ORDINAL}(?:(?:,? |-|/){_YEAR})?(?!\w)",
            0.2,
        ),
        Pattern("CJK", r"\d(?<!\d\d)\d{3}[年년] ?\d\d?[月월] ?\d\d?[日일]", 0.2),
    )
    CONTEXT = (
        "born", "birth", "birthdate", "birthday", "bday", "b-day", "dob", "d.o.b", "d.o.b.",
        "date of birth", "geboren", "geb", "geburtstag", "geburtsdatum", "né", "née", "naissance",
        "anniversaire", "nacido", "nacida", "nací", "nacimiento", "cumpleaños", "nato", "nata",
        "nascita", "compleanno", "nascido", "nascida", "nasci", "nascimento", "aniversário",
        "geboortedatum", "verjaardag", "urodzony", "urodzona", "urodzenia", "född", "født",
        "fødselsdag", "syntynyt", "doğum", "narozen", "született", "生年月日", "生日", "출생",
    )  # fmt: skip
    gate = DIGIT

    def weigh(self, value: str, score: float) -> float:
        """Numbers that cannot be a day and a month are no date."""
        if re.search(r"[^\W\d_]", value):
            return score
        numbers = [int(number) for number in re.findall(r"\d+", value)]
        if len(numbers) == 1:
            year, rest = divmod(numbers[0], 10_000)
            numbers = [year, *divmod(rest, 100)]
        year_first = numbers[0] > 31
        day, month = sorted(numbers[1:] if year_first else numbers[:2], reverse=True)
        return score if 1 <= month <= 12 and 1 <= day <= 31 else 0


# No decorator or annotation, on a line above what it decorates.
_NOT_CODE = (
    r"(?![^\S\n]{0,9}\n\s{0,40}(?:@|def |async |class |public |private |protected |static |final ))"
)


class HandleRecognizer(ContextPatternRecognizer):
    """@names, but not those of annotations, scoped packages and everybody in a channel."""

    ENTITY = "USERNAME"
    PATTERNS = (
        Pattern("@name", r"@(?<![\w@./+-]@)[A-Za-z_][\w.-]{1,38}+(?![\w/@({-])" + _NOT_CODE, 0.5),
        Pattern(
            "@name@host", r"@(?<![\w@./+-]@)[\w.-]{1,64}+@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}", 0.7
        ),
    )
    _OTHERS = frozenset((
        "abc", "abstractmethod", "after", "all", "app", "autowired", "before", "channel",
        "charset", "classmethod", "column", "component", "data", "dataclass", "deprecated",
        "end", "entity", "everybody", "everyone", "fixture", "functools", "getter", "here",
        "home", "implementation", "import", "interface", "keyframes", "layer", "media",
        "nonnull", "nullable", "override", "param", "property", "pytest", "return", "returns",
        "room", "selector", "service", "setter", "staticmethod", "supports", "table", "team",
        "test", "the", "throws",
    ))  # fmt: skip
    gate = AT

    def span(self, match: re.Match[str]) -> tuple[int, int]:
        return match.start(), match.start() + len(match[0].rstrip(".-"))

    def weigh(self, value: str, score: float) -> float:
        first = re.split(r"[.]", value[1:].lower())[0]
        return 0 if first in self._OTHERS or len(value) < 3 else score


class UsernameRecognizer(ContextPatternRecognizer):
    """What is called somebody's name somewhere: 'username: x', 'my instagram is x', u/x."""

    ENTITY = "USERNAME"
    _VALUE = r"(?P<datum>[^\W_][\w.-]{1,38}\w|_[\w.-]{1,38}\w)"
    _WHAT = (
        "user[ _-]?(?:name|id)", "log-?in(?: name| id)?", "screen ?name", "handle", "nick(?:name)?",
        "gamer ?tag", "benutzer(?:name|kennung)?", "nutzername", "anmeldename", "spitzname",
        "nom d['\u2019]utilisateur", "pseudo", "identifiant", "nombre de usuario", "usuario",
            "apodo",
        "nome utente", "utente", "nome de (?:utilizador|usu[aá]rio)", "utilizador", "usuário",
        "gebruikersnaam", "inlognaam", "bijnaam",
    )  # fmt: skip
    _WHERE = (
        "insta(?:gram)?", "ig", "twitter", "tik ?tok", "snap(?:chat)?", "discord", "telegram", "tg",
        "reddit", "github", "gitlab", "steam", "twitch", "youtube", "skype", "kik", "linkedin",
        "facebook", "fb", "psn", "xbox", "bluesky", "mastodon", "threads", "venmo",
        "cashapp", "signal", "wechat", "weibo", "vk", "user", "account", "profile",
    )  # fmt: skip
    _SITES = "|".join(_WHERE[:-3])
    _IS = (
        r"(?: (?:username|name|handle|id|account|user|is|was|as|now|called|ist|lautet|est|es|è|é|mi"
        r"|mein|mon|mio|meu|mijn)){0,3}"
    )
    PATTERNS = (
        Pattern(
            "username: x",
            names(*_WHAT) + rf"\s{{0,2}}[:=]\s{{0,2}}[\"'`]?@?{_VALUE}(?![(\w])",
            0.55,
        ),
        Pattern(
            "my username is x",
            names(
                "my",
                "his",
                "her",
                "mein",
                "sein",
                "ihr",
                "mi",
                "su",
                "mon",
                "son",
                "mio",
                "suo",
                "sua",
                "meu",
                "seu",
                "mijn",
                "zijn",
                "haar",
            )
            + r" "
            + names(*_WHAT)
            + rf" (?:is|ist|lautet|est|es|è|é) [\"'`]?@?{_VALUE}(?![(\w])",
            0.5,
        ),
        Pattern(
            "my github is x",
            names(*_WHAT, *_WHERE)
            + _IS
            + rf"(?:\s{{0,2}}[:=]\s{{0,2}}| )[\"'`]?@?{_VALUE}(?![(\w])",
            0.2,
        ),
        Pattern(
            "I am x on telegram",
            names(
                "sono",
                "soy",
                "sou",
                "je suis",
                "ich bin",
                "bin",
                "i am",
                "i'm",
                "ik ben",
                "me as",
                "am",
            )
            + rf" @?{_VALUE} (?:on|auf|sur|en|su|no|na|op|in|bei|at|a) (?:{_SITES})\b",
            0.6,
        ),
        Pattern(
            "ssh x@host",
            r"\b(?:ssh|rdp|scp|sftp|ftp|rsync|telnet)[ :/]{1,3}(?:-\w{1,2} \S{1,40} ){0,3}"
            r"(?P<datum>[^\W_][\w.-]{1,31})@[\w.-]",
            0.7,
        ),
        Pattern("u/x", r"u/(?<![\w./]u/)(?P<datum>[\w-]{3,20})(?![\w/])", 0.6),
    )
    # Without a sign or a digit it can only be taken for a word.
    gate = re.compile(r"[\d_:=/.@](?:(?<!\.)|[a-z0-9])|(?: is| ist| est| es| è| é) ")

    def weigh(self, value: str, score: float) -> float:
        """A digit or a mark among letters makes the name of an account likely."""
        if score < 0.6 and re.search(r"[\d_]|\w\.\w", value) and re.search(r"[^\W\d_]", value):
            return 0.7
        if value.casefold() in _SYSTEM_USERS:
            return 0
        return score


_SYSTEM_USERS = frozenset((
    "root", "admin", "administrator", "ubuntu", "debian", "centos", "ec2-user", "git", "user",
    "username", "deploy", "postgres", "mysql", "www-data", "guest", "test", "pi", "host", "name",
))  # fmt: skip
