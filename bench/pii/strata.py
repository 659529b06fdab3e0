"""Which turns of human conversations are labelled by hand.

Conversations that the detector is trained with are left out. Each stratum is in random order, and
is labelled from its beginning as far as there was time for.
"""

import random
import re
from functools import cache

from bench.pii.sets import conversations
from tasks.scrub.synthetic.chats import MEASURED_WITH

SEED = 19
STRATA = ("random", "enriched", "naming")
# Turns of the first two strata that are set apart, so that no turn is in two.
BY_CHANCE, ENRICHED = 1500, 650
SECOND_PASS = 320
# Words before which names often stand, and what may be one.
BEFORE_CAPITALS = re.compile(
    r"\b(?:[Hh]i|[Hh]ey|[Hh]ello|[Tt]hanks|[Bb]ye|I'm|I am|[Ii]m|in|to|at|near|with|and|or|of|by"
    r"|for|brother|sister|husband|wife|friends?|cousin|roommate|professor|is|was|met|know),?"
    r" (?!I\b|I'|Ok\b|OK|TV|LOL|Lol|Haha|Have|How|What|The|It|Im|That|God|American|English)"
    r"[A-Z][a-z]+"
    r"|\b(?:name is|names? are|named|name's|call(?:ed)? me|live in|lived in|from|born in|moved to"
    r"|work(?:ed)? at|work(?:ed)? for|grew up in|mission in|go to) (?!the\b|my\b|a\b|that\b)[a-z]"
)
# Words with which people greet, introduce and place one another.
ABOUT_SOMEBODY = re.compile(
    r"\b(?:[Hh]i|[Hh]ey|[Hh]ello|[Tt]hanks|[Bb]ye|[Gg]oodbye|[Ss]ee you|[Yy]o|meet you),?"
    r" (?!I\b|I'|How|What|The|There|Im|Are|Have|Do)[A-Z][a-z]+"
    r"|\b(?:name is|name's|named|names are|I'm|[Ii] am|im|this is|call me|know|met|and|or|is|it's"
    r"|with) (?!I\b|I'|The\b|English|Spanish|French|Computer|Harry|Star|Marvel)[A-Z][a-z]{2,}\b"
    r"|\b(?:brother|sister|husband|wife|friend|cousin|roommate|professor|[Dd]r\.?|boss|teacher|dog"
    r"|girlfriend|boyfriend),? [A-Z][a-z]+"
    r"|\b(?:from|live in|lived in|living in|born in|moved to|grew up in|served in|mission in"
    r"|mission to|went to|been to|trip to|works? at|worked at|works? for|worked for"
    r"|intern(?:ing|ship)? (?:at|with)|go to|going to|study at|graduated from|accepted to)"
    r" (?:the )?[A-Z][a-z]"
    r"|\b(?:to|at|from|in|of) (?:byu|BYU|uvu|UVU|MTC|mtc)\b"
    r"|\b(?:from|live in|lived in|born in|moved to|grew up in|served in|mission in|name is|named)"
    r" (?!(?:the|a|an|my|home|work|here|there|that|this|your|it|one|our|high|what|school|other|all"
    r"|some|his|her|their|its|people|where|scratch|when|being|now|each|any|those|these|me|you|doing"
    r"|different)\b)[a-z]{3,}"
)

Turn = tuple[str, int]


@cache
def stratum(name: str) -> list[Turn]:
    """The turns of a stratum, in the order in which they are labelled: (conversation, turn).

    `random` is drawn from all turns alike, the others from shorter turns with such words in them.
    """
    held_out = [
        (conversation, turn)
        for number, (conversation, messages) in enumerate(conversations().items())
        if str(number).endswith(MEASURED_WITH)
        for turn in range(len(messages))
    ]
    draw = random.Random(SEED)
    by_chance = draw.sample(held_out, BY_CHANCE)
    if name == "random":
        return by_chance
    taken = set(by_chance)
    if name == "enriched":
        return _matching(BEFORE_CAPITALS, 300, held_out, taken, draw)
    taken |= set(stratum("enriched")[:ENRICHED])
    return _matching(ABOUT_SOMEBODY, 250, held_out, taken, draw)


def _matching(
    words: re.Pattern[str], longest: int, turns: list[Turn], taken: set[Turn], draw: random.Random
) -> list[Turn]:
    """The turns of at most so many characters in which such words stand, without those taken."""
    found = [
        at
        for at in turns
        if at not in taken and len(text_of(at)) <= longest and words.search(text_of(at))
    ]
    return draw.sample(found, len(found))


def second_pass() -> list[Turn]:
    """Turns of `random` that are labelled twice, in another order."""
    return random.Random(SEED + 1).sample(stratum("random"), SECOND_PASS)


def text_of(at: Turn) -> str:
    conversation, turn = at
    return conversations()[conversation][turn]
