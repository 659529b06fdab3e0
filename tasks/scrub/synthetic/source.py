"""Seeded draws of invented values, from one country at a time."""

import hashlib
import random
import string
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from faker import Faker

Kept = TypeVar("Kept")
# A fifth of all names, places and templates is only ever planted by audits, never trained on.
AUDIT_SHARE = 20

LATIN = (
    "en_US", "en_US", "en_US", "en_GB", "en_GB", "en_AU", "en_CA", "en_IE", "en_IN", "en_NG",
    "en_KE", "en_PH", "de_DE", "de_AT", "de_CH", "fr_FR", "fr_CA", "es_ES", "es_MX", "es_AR",
    "it_IT", "pt_BR", "pt_PT", "nl_NL", "nl_BE", "pl_PL", "cs_CZ", "sk_SK", "hu_HU", "ro_RO",
    "sv_SE", "da_DK", "no_NO", "fi_FI", "is_IS", "et_EE", "lt_LT", "lv_LV", "hr_HR", "sl_SI",
    "bs_BA", "tr_TR", "az_AZ", "id_ID", "fil_PH", "vi_VN", "yo_NG", "zu_ZA", "sq_AL", "mt_MT",
)  # fmt: skip
OTHER_SCRIPTS = (
    "el_GR", "el_CY", "ru_RU", "uk_UA", "bg_BG", "ka_GE", "hy_AM", "ar_SA", "ar_EG", "fa_IR",
    "he_IL", "hi_IN", "bn_BD", "ta_IN", "th_TH", "ja_JP", "ko_KR", "zh_CN", "zh_TW",
)  # fmt: skip
FALLBACK = "en_US"
# The countries whose people write each language; what is drawn more often stands more often.
LANGUAGES = {
    "en": LATIN,
    "de": ("de_DE", "de_DE", "de_DE", "de_AT", "de_CH"),
    "fr": ("fr_FR", "fr_FR", "fr_FR", "fr_CA", "fr_BE", "fr_CH"),
    "es": ("es_ES", "es_ES", "es_MX", "es_MX", "es_AR", "es_CO", "es_CL"),
    "it": ("it_IT",),
    "pt": ("pt_BR", "pt_BR", "pt_PT"),
    "nl": ("nl_NL", "nl_NL", "nl_BE"),
}
# In English, how often the names are in another script; in other languages, how often those of
# somebody from elsewhere.
FROM_ELSEWHERE = {"en": 0.04}
USUALLY_FROM_ELSEWHERE = 0.08


def is_for_audits(value: str) -> bool:
    """Whether a name, place or template is kept from training, to be planted by audits."""
    return _digest(value)[0] % 100 < AUDIT_SHARE


def by_share(
    values: Sequence[Kept], *, for_audits: bool, key: Callable[[Kept], str] = str
) -> tuple[Kept, ...]:
    """The part of a list that is kept from training, or the rest; neither is empty if there are two
    values at least."""
    ordered = sorted(values, key=lambda value: _digest(key(value)))
    kept = max(1, round(len(ordered) * AUDIT_SHARE / 100)) if len(ordered) > 1 else 0
    return tuple(ordered[:kept] if for_audits else ordered[kept:])


def _digest(value: str) -> bytes:
    return hashlib.blake2b(value.casefold().encode(), digest_size=4).digest()


class Source:
    """Draws, the same for the same seed, of the country and the language that were last chosen.

    Args:
        seed: of everything drawn.
        for_audits: draw what is kept from training, instead of the rest.
    """

    def __init__(self, seed: int, *, for_audits: bool = False) -> None:
        self.draw = random.Random(seed)
        self.language, self.locale = "en", FALLBACK
        self._seed = seed
        self._for_audits = for_audits
        self._fakers: dict[str, Faker] = {}

    def country(self, language: str = "en") -> None:
        """Choose another country of a language, whose values are drawn from now on.

        Raises:
            KeyError: the language is none of `LANGUAGES`.
        """
        locales = LANGUAGES[language]
        if self.draw.random() < FROM_ELSEWHERE.get(language, USUALLY_FROM_ELSEWHERE):
            locales = OTHER_SCRIPTS if language == "en" else LATIN
        self.language, self.locale = language, self.draw.choice(locales)

    def home(self) -> str:
        """The locale whose addresses, telephones and words suit the language: the last chosen one,
        or, where only the person is from elsewhere, another one of the language."""
        own = LANGUAGES[self.language]
        return self.locale if self.locale in own else self.draw.choice(own)

    def faker(self, locale: str) -> Faker:
        if locale not in self._fakers:
            self._fakers[locale] = Faker(locale)
            self._fakers[locale].seed_instance(self._seed + zlib.crc32(locale.encode()))
        return self._fakers[locale]

    def fake(self, kind: str, locale: str | None = None) -> str:
        """A value of Faker's, of the chosen country where Faker has it."""
        faker = self.faker(locale or self.locale)
        make = getattr(faker, kind, None) or getattr(self.faker(FALLBACK), kind)
        return str(make())

    def kept(self, draw: Callable[[], str]) -> str:
        """A value of the right part; of a list that is too small for that, any."""
        for _ in range(50):
            value = draw()
            if is_for_audits(value) == self._for_audits:
                break
        return value

    def code(self, form: str) -> str:
        """`#` becomes a digit, `%` one that is not 0, `@` a capital letter, `~` a small one."""
        kinds = {
            "#": string.digits,
            "%": string.digits[1:],
            "@": string.ascii_uppercase,
            "~": string.ascii_lowercase,
        }
        return "".join(self.draw.choice(kinds.get(sign, sign)) for sign in form)
