"""Check digits: each tells whether a value could be what it looks like."""

import hashlib
import string

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_IBAN_DIGITS = {ord(c): str(i) for i, c in enumerate(string.digits + string.ascii_uppercase)}
_VIN_VALUES = {c: i for i, c in enumerate(string.digits)} | dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", [*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)], strict=True)
)
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 check digit."""
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def luhn_digit(text: str) -> str:
    """The digit that makes `text` and it pass `luhn`; what is no digit is skipped."""
    body = "".join(character for character in text if character.isdigit())
    return next(last for last in string.digits if luhn(body + last))


def iban(value: str) -> bool:
    """ISO 7064 MOD 97-10 over the rearranged value, as ISO 13616-1 has it."""
    return int((value[4:] + value[:4]).upper().translate(_IBAN_DIGITS)) % 97 == 1


def nhs(digits: str) -> bool:
    """Modulus 11 over ten digits (NHS Data Dictionary, NHS NUMBER)."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, range(10, 0, -1), strict=True))
    return total % 11 == 0


def vin(value: str) -> bool:
    """Ninth character of a vehicle identification number (49 CFR 565.15(c))."""
    values = [_VIN_VALUES[character] for character in value.upper()]
    total = sum(number * weight for number, weight in zip(values, _VIN_WEIGHTS, strict=True))
    return value[8].upper() == "0123456789X"[total % 11]


def german_pension(value: str) -> bool:
    """Check digit of a German pension insurance number: 12 characters, of which the ninth is the
    letter of a name (VKVV, section 4): the digit sums of weighted digits, modulo 10."""
    letter = f"{ord(value[8].upper()) - ord('A') + 1:02}"
    digits = value[:8] + letter + value[9:11]
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    total = sum(
        sum(divmod(int(digit) * weight, 10)) for digit, weight in zip(digits, weights, strict=True)
    )
    return total % 10 == int(value[11])


def medicare(value: str) -> bool:
    """Ninth digit of an Australian Medicare number: eight weighted digits, modulo 10.

    https://meteor.aihw.gov.au/content/270101
    """
    digits = [int(digit) for digit in value if digit.isdigit()]
    weights = (1, 3, 7, 9, 1, 3, 7, 9)
    return sum(d * w for d, w in zip(digits, weights, strict=False)) % 10 == digits[8]


def nric(value: str) -> bool:
    """Last letter of a Singaporean identity number: S, T (citizens), F or G (others), 7 digits."""
    first, digits, last = value[0].upper(), value[1:8], value[8].upper()
    total = sum(
        int(digit) * weight for digit, weight in zip(digits, (2, 7, 6, 5, 4, 3, 2), strict=True)
    )
    total += 4 if first in "TG" else 0
    return last == ("JZIHGFEDCBA" if first in "ST" else "XWUTRQPNMLK")[total % 11]


def base58check(value: str) -> bool:
    """A version byte, a 20-byte hash, and the start of the double SHA-256 of both.

    https://en.bitcoin.it/wiki/Base58Check_encoding; Bitcoin's addresses and those like them.
    """
    number = 0
    for character in value:
        number = number * 58 + BASE58.index(character)
    if number >> 200:
        return False
    payload = number.to_bytes(25, "big")
    double = hashlib.sha256(hashlib.sha256(payload[:-4]).digest()).digest()
    return double[:4] == payload[-4:]


def bech32(value: str) -> bool:
    """BIP 173 (bech32) or BIP 350 (bech32m) checksum."""
    prefix, _, data = value.lower().rpartition("1")
    checksum = 1
    for five_bits in (
        *(ord(character) >> 5 for character in prefix),
        0,
        *(ord(character) & 31 for character in prefix),
        *(BECH32.index(character) for character in data),
    ):
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ five_bits
        for bit, generator in enumerate(
            (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
        ):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum in (1, 0x2BC830A3)
