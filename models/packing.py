"""Which conversations each step, rank and pass through the model takes, and their tensors.

A step takes `batch_size` conversations, whatever the number of ranks: the same seed gives the same
steps on a laptop and on eight GPUs. How a step is laid out on ranks and passes ("micro-batches")
changes only the order in which its gradients are summed up.
"""

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.chat import IGNORED, Example

Groups = list[list[int]]


class Layout(BaseModel):
    """One step: for each rank the micro-batches it takes, the same number for all.

    A micro-batch is a list of example indices; an empty one is taken for the collective calls
    that the others need it in.
    """

    model_config = ConfigDict(frozen=True)

    ranks: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def examples(self) -> list[int]:
        return [index for rank in self.ranks for batch in rank for index in batch]


class Lengths:
    """Tokens of each conversation in a row, in order.

    A class of its own, as the compiler looks into a tuple and compiles anew for each other one.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        self.tokens = list(tokens)
        self._ends: dict[Any, Any] = {}

    def ends(self, device: Any) -> Any:
        """0 and where each conversation ends, int32 [conversations + 1]; copied there once."""
        import torch

        if device not in self._ends:
            ends = torch.tensor([0, *itertools.accumulate(self.tokens)], dtype=torch.int32)
            self._ends[device] = ends.to(device)
        return self._ends[device]


def step_count(count: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    wanted = max(1, round(math.ceil(count / batch_size) * epochs))
    return min(wanted, max_steps or wanted)


def steps(count: int, batch_size: int, epochs: float, max_steps: int | None, seed: int) -> Groups:
    """Indices of the examples of each step; every epoch takes all of them in another order."""
    order = random.Random(seed)
    wanted = step_count(count, batch_size, epochs, max_steps)
    taken: Groups = []
    while len(taken) < wanted:
        indices = list(range(count))
        order.shuffle(indices)
        taken += [indices[at : at + batch_size] for at in range(0, count, batch_size)]
    return taken[:wanted]


def example_steps(
    conversations: Sequence[Sequence[int]],
    batch_size: int,
    epochs: float,
    max_steps: int | None,
    seed: int,
) -> Groups:
    """Examples of each step, those of one conversation in the same one.

    Args:
        conversations: the examples of each conversation.
        batch_size: conversations a step.
        epochs, max_steps, seed: as `steps` takes them.
    """
    chosen = steps(len(conversations), batch_size, epochs, max_steps, seed)
    return [[example for one in step for example in conversations[one]] for step in chosen]


def layout(
    lengths: Sequence[int], chosen: Sequence[int], ranks: int, budget: int, *, padded: bool = False
) -> Layout:
    """Share a step's examples among ranks and micro-batches, evenly and of like length.

    Args:
        lengths: tokens of every example.
        chosen: indices of the step's examples.
        ranks: how many processes share them.
        budget: tokens of one micro-batch, at most; an example that is longer goes alone.
        padded: whether a micro-batch's tokens count with padding.
    """
    share = _even(chosen, lengths, ranks)
    cut = [_within(part, lengths, budget, padded=padded) for part in share]
    most = max(len(batches) for batches in cut)
    return Layout(
        ranks=tuple(
            tuple(tuple(batch) for batch in [*batches, *[[]] * (most - len(batches))])
            for batches in cut
        )
    )


def _even(chosen: Sequence[int], lengths: Sequence[int], parts: int) -> Groups:
    """Longest first, each to the part with the fewest tokens (Graham's rule, 1969)."""
    share: Groups = [[] for _ in range(parts)]
    totals = [0] * parts
    for index in sorted(chosen, key=lambda index: (-lengths[index], index)):
        least = totals.index(min(totals))
        share[least].append(index)
        totals[least] += lengths[index]
    return share


def _within(part: Sequence[int], lengths: Sequence[int], budget: int, *, padded: bool) -> Groups:
    batches: Groups = []
    used = 0
    for index in part:  # longest first, so the first of a padded batch is as long as all are made
        length = lengths[batches[-1][0]] if batches and padded else lengths[index]
        if batches and used + length <= budget:
            batches[-1].append(index)
            used += length
        else:
            batches.append([index])
            used = lengths[index]
    return batches


def pack(examples: Sequence[Example]) -> dict[str, Any]:
    """Conversations one after the other, in one row without padding.

    Returns:
        `input_ids` and `position_ids` [1, tokens], each conversation's positions from 0 on;
        `keep`, where the hidden state predicts a supervised token, and `targets`, which token
        that is, both [supervised]; `lengths`, the tokens of each conversation.
    """
    import torch

    ids = [token for example in examples for token in example.input_ids]
    positions = [at for example in examples for at in range(len(example.input_ids))]
    lengths = Lengths(len(example.input_ids) for example in examples)
    following = [
        label for example in examples for label in (*example.labels[1:], IGNORED)
    ]  # the last token of a conversation predicts nothing of the next
    keep = [at for at, label in enumerate(following) if label != IGNORED]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "keep": torch.tensor(keep, dtype=torch.long),
        "targets": torch.tensor([following[at] for at in keep], dtype=torch.long),
        "lengths": lengths,
    }
