"""Word problems and plain calculations with worked answers, written in many ways."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal, DivisionByZero, InvalidOperation
from pathlib import Path

from bench.pii.kinds.row import Row, alternating

NAMES = (
    "Ava", "Ben", "Carla", "Dmitri", "Elif", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kwame",
    "Leila", "Mark", "Nadia", "Omar", "Paula", "Quentin", "Rosa", "Sven", "Tara", "Will", "Yusuf",
)  # fmt: skip
THINGS = (
    "apples", "marbles", "stickers", "pencils", "cupcakes", "books", "eggs", "tickets", "bricks",
    "flowers", "coins", "postcards", "bottles", "cards", "shells", "oranges", "batteries", "chairs",
)  # fmt: skip
# "question | what is said of a step: left operation right; ...", a problem a line. r is the result
# of the step before, p of the one before that; the other small letters are numbers of RANGES, m
# an amount of money.
STORIES = Path(__file__).with_name("texts") / "stories.txt"
PLAIN = (
    "What is {q}?", "Calculate {q}.", "{q} = ?", "Please compute {q}", "Evaluate: {q}",
    "Work out {q} step by step.", "Solve {q} and show your work.", "How much is {q}?",
)  # fmt: skip
OPERATIONS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
}
RANGES = {
    "a": (2, 9), "b": (2, 9), "c": (2, 6), "e": (10, 60), "f": (11, 99), "g": (100, 900),
    "h": (901, 25000),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """`says` left `operation` right = result, numbers as they are written."""

    says: str
    left: str
    operation: str
    right: str
    result: str


def rows(draw: random.Random) -> Iterator[Row]:
    return alternating(draw, _stories(draw), _stories(draw), _chains(draw), _formulas(draw))


def _stories(draw: random.Random) -> Iterator[Row]:
    stories = STORIES.read_text(encoding="utf-8").splitlines()
    while True:
        question, _, worked = draw.choice(stories).partition(" | ")
        numbers = {letter: Decimal(draw.randint(*span)) for letter, span in RANGES.items()}
        numbers["m"] = (
            Decimal(draw.choice((100 * draw.randint(2, 90), draw.randint(150, 9999)))) / 100
        )
        words = dict(zip("ABC", draw.sample(NAMES, 3), strict=True)) | {"t": draw.choice(THINGS)}
        comma = draw.random() < 0.3
        steps = _steps(worked, numbers, comma)
        if steps is None:
            continue
        shown = words | {letter: _written(number, comma) for letter, number in numbers.items()}
        said = [replace(step, says=step.says.format(**shown)) for step in steps]
        answer, final = draw.choice(FORMS)(said)
        names = frozenset(words[letter].lower() for letter in "ABC")
        yield Row((question.format(**shown), answer), final, names)


def _steps(worked: str, numbers: dict[str, Decimal], comma: bool) -> list[Step] | None:
    """The steps with their results; None where one comes out negative or does not divide."""
    known, steps = dict(numbers), []
    for part in worked.split("; "):
        says, _, formula = part.rpartition(": ")
        left, operation, right = (known.get(word, word) for word in formula.split())
        try:
            first, second = Decimal(left), Decimal(right)
            result = OPERATIONS[str(operation)](first, second)
        except (DivisionByZero, InvalidOperation):
            return None
        if result != round(result, 2) or abs(result) > 10**9:
            return None
        written = [_written(number, comma) for number in (first, second, result)]
        steps.append(Step(says, written[0], str(operation), written[1], written[2]))
        known["p"], known["r"] = known.get("r", result), result
    return steps


def _written(number: Decimal, comma: bool) -> str:
    whole = number == number.to_integral_value()
    return f"{number:{',' if comma else ''}.{0 if whole else 2}f}"


def _chains(draw: random.Random) -> Iterator[Row]:
    """Calculations without a story: two to five numbers, from left to right."""
    while True:
        most = draw.choice((10, 20, 100, 1000, 10**6, 10**9))
        places = draw.choice((0, 0, 0, 1, 2))
        drawn = [Decimal(draw.randint(1, most * 10**places)).scaleb(-places) for _ in range(5)]
        formula, value, steps = _written(drawn[0], False), drawn[0], []
        for number in drawn[1 : draw.randint(2, 5)]:
            operation = draw.choice("+-*" if most < 10**6 else "+-")
            result = round(OPERATIONS[operation](value, number), 2)
            shown = [_written(part, False) for part in (value, number, result)]
            steps.append(Step(draw.choice(STARTS), shown[0], operation, shown[1], shown[2]))
            formula = f"({formula})" if operation == "*" and len(steps) > 1 else formula
            formula, value = f"{formula} {operation} {shown[1]}", result
        answer, final = draw.choice(FORMS)(steps)
        yield Row((draw.choice(PLAIN).format(q=formula), answer), final)


TIMES = "\N{MULTIPLICATION SIGN}"
STARTS = ("First", "Next", "Then", "So", "Step", "We get", "Now")


def _formulas(draw: random.Random) -> Iterator[Row]:
    """Equations, fractions, percentages, sums in columns and sequences."""
    while True:
        a, b, x = draw.randint(2, 19), draw.randint(1, 99), draw.randint(-20, 60)
        yield Row(
            (
                f"Solve for x: {a}x + {b} = {a * x + b}",
                f"{a}x + {b} = {a * x + b}\n{a}x = {a * x + b} - {b} = {a * x}\n"
                f"x = {a * x}/{a}\n\n## Answer\n**x = {x}**",
            ),
            f"**x = {x}**",
        )
        part, whole = draw.randint(1, 99), draw.choice((100, 200, 400, 1000, 2500))
        yield Row(
            (
                f"What is {part}% of {whole:,}?",
                f"{part}/100 {TIMES} {whole} = {part * whole // 100}",
            ),
            f"= {part * whole // 100}",
        )
        numbers = [draw.randint(10, 10**7) for _ in range(draw.randint(3, 7))]
        width = len(str(sum(numbers)))
        column = "\n".join(f"{number:>{width + 2}}" for number in numbers)
        total = f"{sum(numbers):>{width + 2}}"
        yield Row(
            (f"Add these up:\n{column}", f"```\n{column}\n{'-' * (width + 2)}\n{total}\n```"),
            f"{total}\n```",
        )
        start, by = draw.randint(1, 50), draw.randint(2, 12)
        terms = [start + by * place for place in range(7)]
        yield Row(
            (
                f"Continue: {', '.join(map(str, terms[:5]))}, ...",
                f"The difference is {by}, so next come {terms[5]} and {terms[6]}.",
            ),
            f"{terms[5]} and {terms[6]}.",
        )
        c, d = draw.randint(2, 12), draw.randint(2, 12)
        e = c * b + a * d
        yield Row(
            (
                f"\\frac{{{a}}}{{{c}}} + \\frac{{{b}}}{{{d}}} = ?",
                f"$$\\frac{{{a}\\cdot{d} + {b}\\cdot{c}}}{{{c}\\cdot{d}}}"
                f" = \\boxed{{\\frac{{{e}}}{{{c * d}}}}}$$",
            ),
            f"\\boxed{{\\frac{{{e}}}{{{c * d}}}}}$$",
        )


def _as_hashes(steps: list[Step]) -> tuple[str, str]:
    """As GSM8K writes it."""
    lines = [
        f"{s.says.rstrip(':')} {s.left}{s.operation}{s.right}"
        f" = <<{s.left}{s.operation}{s.right}={s.result}>>{s.result}"
        for s in steps
    ]
    return "\n".join([*lines, f"#### {steps[-1].result}"]), f"#### {steps[-1].result}"


def _as_headings(steps: list[Step]) -> tuple[str, str]:
    lines = [
        f"### {number}. {s.says}\n{s.left} {TIMES if s.operation == '*' else s.operation} {s.right}"
        f" = **{s.result}**"
        for number, s in enumerate(steps, 1)
    ]
    return "\n\n".join([*lines, f"# {steps[-1].result}"]), f"# {steps[-1].result}"


def _as_latex(steps: list[Step]) -> tuple[str, str]:
    signs = {"*": r"\times", "/": r"\div"}
    lines = [
        rf"\[{s.left} {signs.get(s.operation, s.operation)} {s.right} = {s.result}\]" for s in steps
    ]
    final = rf"\boxed{{{steps[-1].result}}}."
    return "\n".join([*lines, f"The answer is {final}"]), final


def _as_sentences(steps: list[Step]) -> tuple[str, str]:
    text = " ".join(f"{s.says}, {s.left} {s.operation} {s.right} = {s.result}." for s in steps)
    final = f"The answer is {steps[-1].result}."
    return f"{text} {final}", final


def _as_list(steps: list[Step]) -> tuple[str, str]:
    lines = [f"- {s.says}: `{s.left}{s.operation}{s.right}` → {s.result}" for s in steps]
    return "\n".join([*lines, f"Answer: {steps[-1].result}"]), f"Answer: {steps[-1].result}"


FORMS = (_as_hashes, _as_headings, _as_latex, _as_sentences, _as_list)
