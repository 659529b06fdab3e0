"""Token loss from hidden states: logits of supervised tokens only, and never of all at once.

A vocabulary of 49,152 makes the logits of 4,096 tokens 800 MB in float32; here at most
`CHUNK` tokens have theirs at a time (`GPU_CHUNK` on a GPU), and on a CPU `ROWS` of them theirs in
float32, which stay in a core's cache.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHUNK = 256
GPU_CHUNK = 1024
ROWS = 8

Head = Callable[[Tensor], Tensor]


class _ChunkedLoss(torch.autograd.Function):
    """Summed cross-entropy; its gradient by the hidden states is made in the forward pass.

    As in Liger's fused linear cross-entropy (Hsu et al., 2024), here for any frozen head.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, head: Head, chunk_size: int | None
    ) -> Tensor:
        chunk_size = chunk_size or (GPU_CHUNK if hidden.is_cuda else CHUNK)
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)
        for at in range(0, max(1, len(targets)), chunk_size):
            part = slice(at, at + chunk_size)
            with torch.enable_grad():
                chunk = hidden[part].detach().requires_grad_()
                logits = head(chunk)
            loss, by_logits = _with_gradient(logits.detach(), targets[part])
            (gradient[part],) = torch.autograd.grad(logits, chunk, by_logits)
            total += loss
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Any) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * above[0].to(gradient.dtype), None, None, None


def _with_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss, and its gradient by `logits` [tokens, vocabulary]: softmax less target."""
    total = torch.zeros((), device=logits.device)
    gradient = torch.empty_like(logits)
    rows = max(1, len(logits)) if logits.is_cuda else ROWS
    for at in range(0, len(logits), rows):
        part = slice(at, at + rows)
        own = targets[part, None]
        each = torch.log_softmax(logits[part].float(), -1)
        total -= each.gather(1, own).sum()
        each.exp_().scatter_add_(1, own, torch.full_like(own, -1, dtype=each.dtype))
        gradient[part] = each
    return total, gradient


def summed(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in float32, summed (nats)."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def chunked_loss(
    hidden: Tensor, targets: Tensor, head: Head, chunk_size: int | None = None
) -> Tensor:
    """Cross-entropy of `targets` [tokens] given `hidden` [tokens, size], summed (nats).

    Args:
        hidden: the last hidden states that predict the targets.
        targets: token ids.
        head: hidden states to logits; its weights get no gradient. Called at least once.
        chunk_size: tokens that have logits at a time, default what suits the device.
    """
    loss: Tensor = _ChunkedLoss.apply(hidden, targets, head, chunk_size)  # type: ignore[no-untyped-call]
    return loss
