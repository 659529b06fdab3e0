"""How well a model predicts what the assistant said: token loss an item, and perplexity."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.chat import Example, collate

# Tokens that are computed in the time in which all weights are read (on two CPU cores).
PASS_TOKENS = 64


class ItemLoss(BaseModel):
    """Summed cross-entropy (nats) over an item's supervised tokens, and how many there are."""

    model_config = ConfigDict(frozen=True)

    id: str
    loss_sum: float
    tokens: int


def mean_loss(items: Sequence[ItemLoss]) -> float:
    """Nats per token over all items: the sum of losses over the sum of tokens."""
    tokens = sum(item.tokens for item in items)
    return sum(item.loss_sum for item in items) / tokens if tokens else math.nan


def sum_by_id(items: Sequence[ItemLoss]) -> list[ItemLoss]:
    """One item an id, in the order of their first: a conversation may be several examples."""
    sums: dict[str, ItemLoss] = {}
    for item in items:
        before = sums.get(item.id, ItemLoss(id=item.id, loss_sum=0, tokens=0))
        sums[item.id] = ItemLoss(
            id=item.id,
            loss_sum=before.loss_sum + item.loss_sum,
            tokens=before.tokens + item.tokens,
        )
    return list(sums.values())


def perplexity(loss: float) -> float:
    """exp of the mean token loss in nats."""
    return math.exp(loss) if loss < 700 else math.inf


def token_losses(logits: Any, labels: Any) -> Any:
    """Cross-entropy of each next token in float32, [batch, length - 1]; 0 where ignored."""
    import torch

    targets = labels[:, 1:]
    flat = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="none"
    )
    return flat.view(targets.shape)


def score(
    model: Any,
    examples: Sequence[Example],
    pad_id: int,
    *,
    batch_tokens: int = 4096,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[ItemLoss]:
    """Loss of each example, in the order given.

    Args:
        model: a causal LM in eval mode.
        examples: encoded conversations.
        pad_id: the tokenizer's padding id.
        batch_tokens: padded tokens a batch; longer single examples go alone.
        on_progress: called with (items done, items in all) after each batch.
    """
    import torch

    order = sorted(range(len(examples)), key=lambda index: len(examples[index].input_ids))
    results: dict[int, ItemLoss] = {}
    with torch.inference_mode():
        for places in batches([len(examples[i].input_ids) for i in order], batch_tokens):
            indices = [order[place] for place in places]
            batch = {
                name: tensor.to(model.device)
                for name, tensor in collate([examples[i] for i in indices], pad_id).items()
            }
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
            sums = token_losses(logits, batch["labels"]).sum(dim=1).tolist()
            for index, total in zip(indices, sums, strict=True):
                example = examples[index]
                results[index] = ItemLoss(id=example.id, loss_sum=total, tokens=example.supervised)
            if on_progress:
                on_progress(len(results), len(examples))
    return [results[index] for index in range(len(examples))]


def batches(widths: Sequence[int], batch_tokens: int, passes: int = 1) -> list[list[int]]:
    """Places of ascending `widths`, neighbours together, so that all takes the least time: a
    batch's padded tokens, and reading the weights in each of its `passes`.

    A batch has at most `batch_tokens` once padded; longer single ones go alone.
    """
    least, start = [0], [0]  # of the first so many: their cost, and where their last batch starts
    for end, width in enumerate(widths, 1):
        first = max(0, end - max(1, batch_tokens // max(1, width)))
        starts = range(end - 1, first - 1, -1)
        costs = [least[at] + (end - at) * width + passes * PASS_TOKENS for at in starts]
        least.append(min(costs))
        start.append(starts[costs.index(least[-1])])
    found: list[list[int]] = []
    end = len(widths)
    while end:
        found.insert(0, list(range(start[end], end)))
        end = start[end]
    return found
