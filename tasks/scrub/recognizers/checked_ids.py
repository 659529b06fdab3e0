"""Numbers that states give to people, told by their check digits (python-stdnum).

A number with letters in it or two check digits is believed alone. One of digits with a single
check digit, which one number in ten has, is believed where a word announces it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from presidio_analyzer import Pattern

from data_contracts import checksums
from tasks.scrub.recognizers import announcing
from tasks.scrub.recognizers.base import DecidingRecognizer


@dataclass(frozen=True)
class CheckedId:
    """One kind of number.

    `alone` is the form in which it is believed without a word that announces it; None if never.
    `valid` tells whether the letters and digits of a value are such a number.
    """

    form: str
    valid: Callable[[str], bool]
    alone: str | None = None


def _by(module: str) -> Callable[[str], bool]:
    """Validity by a module of python-stdnum, loaded when it is first asked."""

    def is_valid(value: str) -> bool:
        kind: Any = import_module(f"stdnum.{module}")
        return bool(kind.is_valid(value))

    return is_valid


def _always(_value: str) -> bool:
    return True


_S = r"[ .\u00a0-]?"
_ANY = r"."  # any form is believed alone
IDS: dict[str, CheckedId] = {
    "us_ssn": CheckedId(rf"\d{{3}}{_S}\d\d{_S}\d{{4}}", _by("us.ssn"), r"\d{3}-\d\d-\d{4}"),
    "us_itin": CheckedId(rf"9\d\d{_S}\d\d{_S}\d{{4}}", _by("us.itin")),
    "gb_nino": CheckedId(
        rf"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]{_S}\d\d{_S}\d\d{_S}\d\d{_S}[A-D]", _always, _ANY
    ),
    "gb_nhs": CheckedId(rf"\d{{3}}{_S}\d{{3}}{_S}\d{{4}}", _by("gb.nhs")),
    "gb_utr": CheckedId(r"\d{5} ?\d{5}", _by("gb.utr")),
    "de_idnr": CheckedId(
        rf"[1-9]\d{_S}\d{{3}}{_S}\d{{3}}{_S}\d{{3}}", _by("de.idnr"), r"\d\d \d{3} \d{3} \d{3}"
    ),
    "de_pension": CheckedId(
        rf"\d\d{_S}[0-3]\d[01]\d\d\d{_S}[A-Z]{_S}\d{{3}}", checksums.german_pension, _ANY
    ),
    "at_vnr": CheckedId(r"[1-9]\d{3} ?[0-3]\d[01]\d\d\d", _by("at.vnr")),
    "ch_ahv": CheckedId(rf"756{_S}\d{{4}}{_S}\d{{4}}{_S}\d\d", _by("ch.ssn"), r"756.*"),
    "fr_nir": CheckedId(
        rf"[12]{_S}\d\d{_S}[01]\d{_S}\d[\dAB]{_S}\d{{3}}{_S}\d{{3}}{_S}\d\d", _by("fr.nir"), _ANY
    ),
    "es_dni": CheckedId(rf"\d\d?{_S}\d{{3}}{_S}\d{{3}}{_S}[A-Z]", _by("es.dni"), _ANY),
    "es_nie": CheckedId(rf"[XYZ]{_S}\d{{7}}{_S}[A-Z]", _by("es.nie"), _ANY),
    "it_codice": CheckedId(
        r"[A-Z]{3} ?[A-Z]{3} ?\d\d[A-EHLMPRST]\d\d ?[A-Z]\d{3}[A-Z]", _by("it.codicefiscale"), _ANY
    ),
    "pt_nif": CheckedId(rf"[1-35-9]\d\d{_S}\d{{3}}{_S}\d{{3}}", _by("pt.nif")),
    "pt_cc": CheckedId(r"\d{8} ?\d ?[A-Z0-9]{2}\d", _by("pt.cc"), r".*[A-Z].*"),
    "br_cpf": CheckedId(
        rf"\d{{3}}{_S}\d{{3}}{_S}\d{{3}}{_S}\d\d", _by("br.cpf"), r"\d{3}\.\d{3}\.\d{3}-\d\d"
    ),
    "nl_bsn": CheckedId(
        rf"\d{{3,4}}{_S}\d\d{_S}\d{{3}}|\d{{3}}{_S}\d{{3}}{_S}\d{{3}}", _by("nl.bsn")
    ),
    "be_nn": CheckedId(
        rf"\d\d{_S}[0-5]\d{_S}[0-3]\d{_S}\d{{3}}{_S}\d\d",
        _by("be.nn"),
        r"\d\d[.-]\d\d[.-]\d\d[- ]\d{3}[.-]\d\d",
    ),
    "in_aadhaar": CheckedId(rf"[2-9]\d{{3}}{_S}\d{{4}}{_S}\d{{4}}", _by("in_.aadhaar")),
    "in_pan": CheckedId(r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", _by("in_.pan"), r"[A-Z]{3}P.*"),
    "ca_sin": CheckedId(rf"[1-9]\d\d{_S}\d{{3}}{_S}\d{{3}}", _by("ca.sin")),
    "au_tfn": CheckedId(rf"\d{{3}}{_S}\d{{3}}{_S}\d{{2,3}}", _by("au.tfn")),
    "au_medicare": CheckedId(r"[2-6]\d{3}[ -]?\d{5}[ -]?\d(?:[ /-]?\d)?", checksums.medicare),
    "mx_curp": CheckedId(r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z\d]\d", _by("mx.curp"), _ANY),
    "cl_rut": CheckedId(r"\d\d?\.?\d{3}\.?\d{3}-[\dK]", _by("cl.rut"), r"\d\d?\.\d{3}\.\d{3}-."),
    "ar_cuit": CheckedId(r"(?:2[0347])-?\d{8}-?\d", _by("ar.cuit"), r"\d\d-\d{8}-\d"),
    "pl_pesel": CheckedId(r"\d{11}", _by("pl.pesel")),
    "se_personnummer": CheckedId(
        r"(?:\d\d)?\d\d[01]\d[0-3]\d[-+]?\d{4}", _by("se.personnummer"), r"\d{6}(?:\d\d)?[-+]\d{4}"
    ),
    "dk_cpr": CheckedId(r"[0-3]\d[01]\d\d\d-?\d{4}", _by("dk.cpr")),
    "no_fodselsnummer": CheckedId(r"[0-7]\d[0-5]\d\d\d ?\d{5}", _by("no.fodselsnummer")),
    "fi_hetu": CheckedId(r"[0-3]\d[01]\d\d\d[-+A-FU-Y]\d{3}[\dA-Y]", _by("fi.hetu"), _ANY),
    "cn_ric": CheckedId(r"[1-8]\d{16}[\dX]", _by("cn.ric"), _ANY),
    "kr_rrn": CheckedId(r"\d\d[01]\d[0-3]\d-?[1-8]\d{6}", _by("kr.rrn"), r"\d{6}-\d{7}"),
    "sg_nric": CheckedId(r"[STFG]\d{7}[A-Z]", checksums.nric, _ANY),
    "tr_tckimlik": CheckedId(r"[1-9]\d{10}", _by("tr.tckimlik")),
    "za_idnr": CheckedId(r"\d\d[01]\d[0-3]\d ?\d{4} ?[01]\d\d", _by("za.idnr")),
    "ro_cnp": CheckedId(r"[1-9]\d\d[01]\d[0-3]\d{7}", _by("ro.cnp")),
    "il_idnr": CheckedId(r"\d{8}-?\d", _by("il.idnr")),
}
_FORMS = {name: re.compile(kind.form, re.IGNORECASE | re.ASCII) for name, kind in IDS.items()}
_ALONE = {
    name: re.compile(kind.alone if kind.alone != _ANY else kind.form, re.ASCII)
    for name, kind in IDS.items()
    if kind.alone
}


def is_checked(value: str, *, announced: bool) -> bool:
    """Whether a value is one of the numbers here, and in a form believed without a word for it
    unless it is announced."""
    return any(
        form.fullmatch(value)
        and (announced or (name in _ALONE and _ALONE[name].fullmatch(value)))
        and IDS[name].valid(re.sub(r"[^A-Za-z0-9+-]", "", value).upper())
        for name, form in _FORMS.items()
    )


# A word of letters and digits with a digit among its first seven characters.
_GROUP = r"(?=[A-Za-z]{0,6}\d)[A-Za-z0-9]{1,18}(?![^\W_])"
# Up to nine such words, the first after two letters of its own and the last before one: a number
# may be some of them.
_CANDIDATE = (
    r"[A-Za-z0-9](?<![^\W_].)(?<![/@=.-].)"
    rf"(?:(?<=[A-Za-z])[A-Za-z][ .-]{_GROUP}|(?<=\d)[A-Za-z0-9]{{0,17}}(?![^\W_])"
    r"|(?=[A-Za-z]{0,5}\d)[A-Za-z0-9]{1,17}(?![^\W_]))"
    rf"(?:[ .\u00a0-]{_GROUP}){{0,8}}(?:[ .-][A-Za-z](?![^\W_]))?"
)
_ANY_FORM = re.compile("|".join(f"(?:{kind.form})" for kind in IDS.values()), re.I | re.A)
SHORTEST, LONGEST = 8, 18


class CheckedIdRecognizer(DecidingRecognizer):
    """National identity, tax and insurance numbers of some forty kinds, by their check digits."""

    ENTITY = "ID_NUMBER"
    SCORE = 0.9
    PATTERNS = (Pattern("groups", _CANDIDATE, SCORE),)
    FLAGS = 0
    gate = re.compile(r"\d\d")

    def decide(self, text: str, start: int, end: int) -> tuple[int, int] | None:
        return _checked_in(text, start, end)


def _checked_in(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The longest run of groups in text[start:end] that is a checked number; the first of those."""
    groups = [match.span() for match in re.finditer(r"[A-Za-z0-9]+", text[start:end])]
    spans = [
        (start + groups[first][0], start + groups[last][1])
        for first in range(len(groups))
        for last in range(first, len(groups))
        if SHORTEST <= sum(b - a for a, b in groups[first : last + 1]) <= LONGEST
    ]
    for low, high in sorted(spans, key=lambda span: span[0] - span[1]):
        value = text[low:high]
        if not _ANY_FORM.fullmatch(value):
            continue
        if is_checked(value, announced=False) or (
            is_checked(value, announced=True) and _is_announced(text, low, high)
        ):
            return low, high
    return None


def _is_announced(text: str, start: int, end: int) -> bool:
    return announcing.is_near("ID_NUMBER", text, start, end)
