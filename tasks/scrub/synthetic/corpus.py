"""What the detector is trained on: invented personal data, alone and amid other text."""

import random
from collections.abc import Iterator

from data_contracts.findings import LabelledText
from tasks.scrub.synthetic.chats import exchanged, nobodys_messages, somebodys_messages
from tasks.scrub.synthetic.plain import technical_texts
from tasks.scrub.synthetic.sentences import foreign_sentences, joined, sentences
from tasks.scrub.synthetic.values import Values

# How often each kind of text is drawn, relative to the others. With much more text in which there
# is nobody, the detector misses a quarter of what is personal.
MIX = {
    "sentence": 28,  # personal data by itself, in English
    "several sentences": 12,
    "nobody's message": 8,  # of a real conversation
    "message with exchanged names": 16,  # of a real conversation
    "sentence amid a message": 12,
    "sentence of another language": 12,
    "technical or plain text": 16,  # code, sums, tables...; in a fifth of it is somebody
}
JOINTS = (" ", ". ", "\n", "\n\n", ", ", " - ", "! ")


def corpus(count: int, seed: int) -> Iterator[LabelledText]:
    """Labelled texts of all the kinds of `MIX`, the same for the same seed."""
    draw, values = random.Random(seed), Values(seed + 1)
    english, foreign = sentences(10 * count, seed), foreign_sentences(10 * count, seed + 2)
    plain = technical_texts(count, seed + 3)
    messages, named = nobodys_messages(), somebodys_messages()
    for kind in draw.choices(list(MIX), list(MIX.values()), k=count):
        match kind:
            case "sentence":
                yield next(english)
            case "several sentences":
                source = foreign if draw.random() < 0.2 else english
                parts = [next(source) for _ in range(draw.randint(2, 4))]
                yield joined(parts, draw.choice(JOINTS))
            case "nobody's message":
                yield LabelledText(draw.choice(messages), [])
            case "message with exchanged names":
                yield exchanged(draw.choice(named), values)
            case "sentence amid a message":
                parts = [LabelledText(draw.choice(messages), []), next(english)]
                draw.shuffle(parts)
                yield joined(parts, draw.choice(JOINTS))
            case "sentence of another language":
                yield next(foreign)
            case "technical or plain text":
                yield next(plain)
