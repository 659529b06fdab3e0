"""Numbers in the templates of sums and equations: what is written as a sum is worked out."""

import ast
import operator
import random
import re

EXPRESSION = re.compile(
    r"\{\{((?:\d{1,3}\*)?[abcd](?:[-+*/](?:\d{1,3}\*)?(?:[abcd]|\d{1,3})){0,6})\}\}"
)
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
TRIES = 40
MAGNITUDES = ((2, 12), (2, 12), (10, 99), (10, 99), (100, 999))


def with_numbers(template: str, draw: random.Random) -> str:
    """Numbers for `a` to `d`, the same in all of the template, and what `{{a*b}}` and the like
    come to. Results that are negative or no whole numbers are drawn again, as long as that helps.
    """
    expressions = {found[1] for found in EXPRESSION.finditer(template)}
    if not expressions:
        return template
    for _ in range(TRIES):
        numbers = {
            "a": draw.randint(*draw.choice(MAGNITUDES)),
            "b": draw.randint(*draw.choice(MAGNITUDES)),
            "c": draw.randint(2, 12),
            "d": draw.randint(*draw.choice(MAGNITUDES)),
        }
        results = {text: evaluate(text, numbers) for text in expressions}
        if all(result >= 0 and result == int(result) for result in results.values()):
            break
    grouped = draw.random() < 0.2
    written = {text: written_number(result, grouped=grouped) for text, result in results.items()}
    return EXPRESSION.sub(lambda found: written[found[1]], template)


def evaluate(expression: str, numbers: dict[str, int]) -> float:
    """What a sum of the numbers comes to; ValueError if it is anything else than a sum."""

    def value(node: ast.expr) -> float:
        match node:
            case ast.BinOp(left, sign, right) if type(sign) in OPERATORS:
                return float(OPERATORS[type(sign)](value(left), value(right)))
            case ast.Name(name):
                return numbers[name]
            case ast.Constant(int(number)):
                return number
        raise ValueError(f"{expression} is no sum")

    return value(ast.parse(expression, mode="eval").body)


def written_number(number: float, *, grouped: bool) -> str:
    if number != int(number):
        return f"{number:.2f}"
    return f"{int(number):,}" if grouped else str(int(number))
