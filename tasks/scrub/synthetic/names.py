"""Invented people: names in full and short, and what they call themselves online."""

import string
import unicodedata
from collections import defaultdict

from tasks.scrub.synthetic.source import FALLBACK, LANGUAGES, Source

# What friends call each other.
NICKNAMES = {
    "en": (
        "Bob", "Bobby", "Liz", "Lizzie", "Kate", "Katie", "Jenny", "Tommy", "Billy", "Bill", "Jim",
        "Jimmy", "Joey", "Mandy", "Becky", "Becca", "Steph", "Gabby", "Maddie", "Ollie", "Charlie",
        "Alfie", "Archie", "Teddy", "Ned", "Ted", "Dot", "Peggy", "Meg", "Nell", "Gus", "Hank",
        "Chuck", "Rick", "Ricky", "Dick", "Rob", "Robbie", "Sam", "Sammy", "Tess", "Vicky", "Zach",
        "Ash", "Benji", "Cass", "Dee", "Ellie", "Fitz", "Izzy", "Jess", "Kit", "Lou", "Mo", "Nat",
        "Pip", "Raj", "Sid", "Trish", "Val", "Wes", "Xan", "Yas", "Big Mike", "Auntie Jo", "J.J.",
    ),
    "de": (
        "Hansi", "Uli", "Steffi", "Kathi", "Maxi", "Franzi", "Basti", "Flo", "Michi", "Andi",
        "Tobi", "Matze", "Olli", "Berti", "Willi", "Heini", "Gitti", "Moni", "Susi", "Resi",
        "Sepp", "Toni", "Schorsch", "Lisl", "Vroni", "Wolle", "Kalle", "Manni", "Hanni", "Jule",
        "Lenchen", "Gretel", "Annika", "Bine", "Caro", "Chrissi", "Domi", "Gabi", "Hanno", "Jojo",
        "Kiki", "Lexi", "Mimi", "Nele", "Ronny", "Sanni", "Tine", "Vali", "Omi Trude", "Didi",
    ),
    "fr": (
        "Manu", "Nico", "Titou", "Ludo", "Fred", "Gégé", "Dédé", "Momo", "Jojo", "Flo", "Cricri",
        "Steph", "Seb", "Cathy", "Sandrine", "Véro", "Isa", "Nath", "Béa", "Domi", "Caro", "Alex",
        "Mimi", "Lili", "Loulou", "Nanou", "Kiki", "Titi", "Bébert", "Guigui", "Juju", "Lulu",
        "Max", "Mathou", "Mika", "Oli", "Pat", "Pierrot", "Jeannot", "Charlot", "Toinou", "Zaza",
        "Mémé Lucette", "Tata Odile", "Tonton Marcel", "Jipé", "Gaby", "Léo", "Théo", "Vivi",
    ),
    "es": (
        "Paco", "Pepe", "Lupita", "Nacho", "Chema", "Pili", "Conchi", "Lola", "Lolita", "Curro",
        "Kiko", "Quique", "Manolo", "Charo", "Chelo", "Maite", "Merche", "Nando", "Rafa", "Santi",
        "Toño", "Toni", "Txema", "Beto", "Memo", "Chuy", "Chabela", "Chayo", "Goyo", "Güicho",
        "Juancho", "Lalo", "Licha", "Lucho", "Mafe", "Majo", "Mencha", "Moncho", "Nena", "Pancho",
        "Poncho", "Tere", "Tavo", "Vero", "Yoli", "Fer", "Gabi", "Dani", "Javi", "El Chino",
    ),
    "it": (
        "Gigi", "Pippo", "Beppe", "Ale", "Fede", "Peppe", "Peppino", "Totò", "Mimmo", "Nino",
        "Nanni", "Ciccio", "Cecco", "Lella", "Lalla", "Titti", "Tina", "Pina", "Pinuccia", "Mari",
        "Fra", "Gio", "Giò", "Gabri", "Giuly", "Ila", "Ele", "Ste", "Vale", "Vane", "Robi", "Teo",
        "Tommi", "Edo", "Lollo", "Lele", "Dani", "Dado", "Berto", "Bea", "Carletto", "Gianni",
        "Ginetto", "Pierino", "Zia Rosetta", "Zio Tano", "Mariolino", "Simo", "Sere", "Chicca",
    ),
    "pt": (
        "Zé", "Zeca", "Chico", "Nando", "Lu", "Duda", "Dudu", "Juca", "Beto", "Bia", "Cacá",
        "Carlinhos", "Cida", "Dedé", "Didi", "Fafá", "Fê", "Gabi", "Gui", "Gugu", "Guga", "Jô",
        "Joca", "Kika", "Lelê", "Léo", "Lili", "Luizinho", "Malu", "Mari", "Naldo", "Nanda",
        "Nina", "Pedrinho", "Quim", "Rafa", "Renatinha", "Rô", "Tati", "Teca", "Tiaguinho", "Tita",
        "Toninho", "Tonho", "Vavá", "Vivi", "Xande", "Zezinho", "Tia Lurdes", "Manel",
    ),
    "nl": (
        "Jantje", "Sjaak", "Wim", "Truus", "Bram", "Keesje", "Kees", "Piet", "Pietje", "Jaap",
        "Joop", "Henkie", "Gerrie", "Bep", "Riet", "Toos", "Sjors", "Sjonnie", "Ans", "Anneke",
        "Mieke", "Miep", "Fien", "Fleurtje", "Floor", "Guusje", "Guus", "Hansje", "Ineke", "Jet",
        "Jopie", "Koos", "Leentje", "Loes", "Lotje", "Marijke", "Marleentje", "Nel", "Pim", "Puck",
        "Roosje", "Rinus", "Tinus", "Teun", "Thijs", "Toon", "Willemijntje", "Oma Sjaan", "Dirkie",
        "Stef",
    ),
}  # fmt: skip
PARTICLES = {
    "en": ("van", "van der", "de", "von", "di", "al", "bin"),
    "de": ("von", "vom", "von der", "zu"),
    "fr": ("de", "du", "de la", "Le"),
    "es": ("de", "del", "de la", "de los"),
    "it": ("di", "De", "Della", "Lo"),
    "pt": ("da", "de", "dos", "do", "das"),
    "nl": ("van", "van der", "van den", "de", "ter", "in 't", "'t"),
}
SECOND_LAST_NAME = {"es": 0.5, "pt": 0.35}
TITLES = {
    "en": ("Mr.", "Ms.", "Dr.", "Mrs", "Prof."),
    "de": ("Dr.", "Prof.", "Prof. Dr.", "Mag.", "Dipl.-Ing."),
    "fr": ("Dr", "Me", "Pr", "Mme", "M."),
    "es": ("Dr.", "Dra.", "Sr.", "Sra.", "Lic.", "D.", "Dña."),
    "it": ("Dott.", "Dott.ssa", "Ing.", "Avv.", "Sig.ra"),
    "pt": ("Dr.", "Dra.", "Sr.", "Sra.", "Eng.", "Prof."),
    "nl": ("Dr.", "Drs.", "Mr.", "Ir.", "Prof."),
}


class Names:
    """Draws of names of the source's country."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._chains: dict[tuple[str, str], _Chain] = {}

    def name(self) -> str:
        draw, language = self._source.draw, self._source.language
        first, last, kind = self.first_name(), self.last_name(), draw.random()
        if draw.random() < SECOND_LAST_NAME.get(language, 0):
            last = f"{last} {self.last_name()}"
        if kind < 0.66:
            return f"{first} {last}"
        if kind < 0.74:
            return f"{first} {draw.choice(string.ascii_uppercase)}. {last}"
        if kind < 0.79:
            return f"{first[0]}. {last}"
        if kind < 0.84:
            return f"{first} {last}{draw.choice('- ')}{self.last_name()}"
        if kind < 0.88:
            return f"{first}{draw.choice('- ')}{self.first_name()} {last}"
        if kind < 0.91:
            return f"{first} {draw.choice(PARTICLES[language])} {last}"
        if kind < 0.92 and language == "en":
            return f"{first} {draw.choice(('O' + chr(39), 'Mc'))}{last}"
        return first if kind < 0.96 else last

    def first_name(self) -> str:
        if self._source.draw.random() < 0.04:
            return self.nickname()
        return self._invented("first_name")

    def other_first_name(self) -> str:
        return self.first_name()

    def last_name(self) -> str:
        return self._invented("last_name")

    def nickname(self) -> str:
        names = NICKNAMES[self._source.language]
        return self._source.kept(lambda: self._source.draw.choice(names))

    def initials(self) -> str:
        draw = self._source.draw
        letters = draw.choices(string.ascii_uppercase, k=draw.choice((2, 2, 2, 3)))
        return draw.choice((". ".join(letters) + ".", ".".join(letters) + ".", "".join(letters)))

    def username(self) -> str:
        """A name for an account: in small letters, and mostly without accents."""
        draw, fake = self._source.draw, self._source.fake
        first, last = self.first_name(), self.last_name()
        number, word = str(draw.randint(1, 2030)), fake("word", FALLBACK)
        name = draw.choice(
            (
                f"{first}{number}", f"{first}.{last}", f"{first[0]}{last}", f"{last}_{number}",
                f"{word}{number}", f"{word}_{first}", f"x{word}x{number}", f"{first}{last}",
            )
        ).replace(" ", "").lower()  # fmt: skip
        return unaccented(name) if draw.random() < 0.7 else name

    def handle(self) -> str:
        """A name for being seen with, as players and posters choose them."""
        draw, fake = self._source.draw, self._source.fake
        first = unaccented(self.first_name().split()[0])
        word, other = fake("word", FALLBACK), fake("word", FALLBACK)
        number = str(draw.choice((draw.randint(1, 99), draw.randint(1970, 2012))))
        return draw.choice(
            (
                f"{word}_{other}", f"{word.title()}{other.title()}{number}", f"xX_{word}_Xx",
                f"the_real_{first.lower()}", f"{first}{number}", f"its{first.lower()}__",
                f"{word}.{other}", f"{first.lower()}.{word}{number}", f"{word}-{other}-{number}",
                f"{first.upper()}_{number}", f"{word[:4]}{first.lower()[:3]}{number}",
                f"mr{word.title()}", f"{first}The{word.title()}", f"{word}{other}#{number:0>4}",
            )
        )  # fmt: skip

    def _invented(self, kind: str) -> str:
        """A listed name, or, one time in four, one that no list has but that sounds like it."""
        if self._source.draw.random() < 0.25:
            key = (self._source.language, kind)
            if key not in self._chains:
                self._chains[key] = _Chain(self._listed(*key), self._source)
            return self._source.kept(self._chains[key].word)
        return self._source.kept(lambda: self._source.fake(kind))

    def _listed(self, language: str, kind: str) -> list[str]:
        locales = sorted({*LANGUAGES[language]})
        return [
            value
            for locale in locales
            for value in sorted({self._source.fake(kind, locale) for _ in range(60)})
        ]


class _Chain:
    """Letters that follow each other as in the given names (a Markov chain of order 2)."""

    def __init__(self, names: list[str], source: Source) -> None:
        self._draw = source.draw
        self._next: dict[str, list[str]] = defaultdict(list)
        for name in names:
            padded = f"^^{name.lower()}$"
            for at in range(2, len(padded)):
                self._next[padded[at - 2 : at]].append(padded[at])

    def word(self) -> str:
        while True:
            text = "^^"
            while not text.endswith("$") and len(text) < 16:
                text += self._draw.choice(self._next[text[-2:]])
            word = text[2:].rstrip("$")
            if len(word) >= 3 and text.endswith("$"):
                return word.title()


def unaccented(text: str) -> str:
    text = text.replace("ß", "ss")
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if sign.isascii())
