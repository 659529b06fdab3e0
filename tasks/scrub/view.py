"""A text as the recognisers read it: without what only hides characters from them."""

import unicodedata
from dataclasses import dataclass

from data_contracts.findings import Finding


@dataclass(frozen=True)
class View:
    """`text` to search in, and for each of its characters its place in the original.

    Zero-width and other format characters are left out, full-width and other compatibility
    forms of one character are what they stand for, and a line feed written as backslash and n
    is white space.
    """

    text: str
    original: str
    places: tuple[int, ...] | None

    def finding(self, found: Finding) -> Finding:
        """The same finding at its place in the original, with the marks that hang on its end."""
        if self.places is None:
            return found
        start, end = self.places[found.start], self.places[found.end - 1] + 1
        while end < len(self.original) and unicodedata.category(self.original[end]) in HANGING:
            end += 1
        return Finding(start, end, found.entity, found.score)


HANGING = ("Mn", "Mc", "Me", "Cf", "Sk")


def view(original: str) -> View:
    """Costs nothing for ASCII."""
    if original.isascii():
        return View(original.replace("\\n", " \n"), original, None)
    characters, places = [], []
    for place, character in enumerate(original):
        if unicodedata.category(character) == "Cf":
            continue
        form = character if character.isascii() else unicodedata.normalize("NFKC", character)
        characters.append(form if len(form) == 1 else character)
        places.append(place)
    return View("".join(characters).replace("\\n", " \n"), original, tuple(places))
