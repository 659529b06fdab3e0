"""Attention for packed conversations: each sees itself alone, and nothing is padded.

Several conversations lie one after the other in one row of tokens, and every layer but attention
treats them as that. Attention is computed conversation by conversation: in half precision on a GPU
by torch's variable-length flash attention, all of them in one call; elsewhere one after the other,
on a CPU short ones by matrix products that stay in a core's cache, which with their gradients take
half as long as torch's fused kernel there.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention

from models.packing import Lengths

NAME = "isolated"
# The same as a GPU computes it, to be traced where there is none.
FLASH = "isolated-on-gpu"
# Tokens up to which a conversation's weights [tokens, tokens] are kept for the backward pass.
SHORT = 512
# Positions of which the weights are computed together, those hidden within them in vain.
BLOCK = 192


def register() -> None:
    """Make `attn_implementation="isolated"` known to transformers, with no mask to build for it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, isolated_attention)
    AttentionInterface.register(FLASH, partial(isolated_attention, flash=True))
    for name in (NAME, FLASH):
        AttentionMaskInterface.register(name, lambda *_, **__: None)


def isolated_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - transformers' interface
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    lengths: Lengths | None = None,
    flash: bool | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each conversation.

    Args:
        module: the layer that asks.
        query: [1, heads, tokens, head size].
        key: [1, key heads, tokens, head size]; so is `value`.
        scaling: of the products, default one over the root of the head size.
        dropout: of the attention weights.
        sliding_window: how many tokens back, its own included, a token sees.
        lengths: of the conversations; they sum up to `tokens`.
        flash: whether by flash attention; default on a GPU, in half precision, without dropout.

    Raises:
        NotImplementedError: the model asks for what this does not do (soft caps, sinks,
            attention in both directions).
    """
    unsupported = {"softcap", "s_aux", "position_bias"}
    unknown = {name for name in unsupported if others.get(name) is not None}
    if unknown or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"isolated attention without {unknown or 'a causal mask'}")
    lengths = lengths or Lengths([query.shape[2]])
    if flash is None:
        flash = query.is_cuda and query.dtype != torch.float32 and dropout == 0
    if flash:
        return _by_flash(query, key, value, scaling, sliding_window, lengths), None
    window = sliding_window or query.shape[2]
    # Split, not sliced: the gradient of each slice would be as large as the whole.
    split = zip(*(torch.split(one, lengths.tokens, 2) for one in (query, key, value)), strict=True)
    parts = [_alone(q, k, v, scaling, dropout, window) for q, k, v in split]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _alone(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int,
) -> torch.Tensor:
    length = query.shape[2]
    if length <= min(window, SHORT) and dropout == 0 and not query.is_cuda:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        short: torch.Tensor = _Short.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
        return short
    grouped = query.shape[1] != key.shape[1]
    if length <= window:
        return scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        )
    ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
    seen = ones.tril() & ones.triu(1 - window)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=seen, dropout_p=dropout, scale=scaling, enable_gqa=grouped
    )


def _future(positions: int, sharing: int, dtype: torch.dtype) -> torch.Tensor:
    """What hides later tokens inside a block, [positions x sharing, positions]."""
    hidden = torch.full((positions, positions), -torch.inf, dtype=dtype).triu(1)
    return hidden.repeat_interleave(sharing, 0)


def _by_position(each: torch.Tensor, key_heads: int) -> torch.Tensor:
    """[1, heads, tokens, size] as [key heads, tokens x sharing, size], a block's rows together."""
    _, heads, tokens, size = each.shape
    grouped = each.reshape(key_heads, heads // key_heads, tokens, size)
    return grouped.transpose(1, 2).flatten(1, 2)


def _by_head(each: torch.Tensor, tokens: int) -> torch.Tensor:
    """What `_by_position` was given."""
    key_heads, rows, size = each.shape
    grouped = each.view(key_heads, tokens, rows // tokens, size)
    return grouped.transpose(1, 2).flatten(0, 1)[None]


def _blocks(tokens: int, sharing: int, heads: int) -> Iterator[tuple[int, int, slice, int]]:
    """(first position, end, their rows, key head), a block and a key head at a time."""
    for start in range(0, tokens, BLOCK):
        end = min(tokens, start + BLOCK)
        for head in range(heads):
            yield start, end, slice(start * sharing, end * sharing), head


class _Short(torch.autograd.Function):
    """Causal attention, a block of positions and what was before them at a time; one key head with
    all queries that share it."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        heads, tokens = key.shape[1:3]
        sharing = query.shape[1] // heads
        queries = _by_position(query, heads) * scale
        out = torch.empty(*queries.shape[:2], value.shape[3], dtype=query.dtype)
        future = _future(min(tokens, BLOCK), sharing, query.dtype)
        kept = []
        for start, end, rows, head in _blocks(tokens, sharing, heads):
            weights = torch.mm(queries[head, rows], key[0, head, :end].T)
            weights[:, start:] += future[: len(weights), : end - start]
            torch.softmax(weights, -1, out=weights)
            torch.mm(weights, value[0, head, :end], out=out[head, rows])
            kept.append(weights)
        ctx.save_for_backward(queries, key, value, *kept)
        ctx.scale, ctx.sharing = scale, sharing
        return _by_head(out, tokens)

    @staticmethod
    def backward(ctx: Any, *above: Any) -> tuple[Any, ...]:
        queries, key, value, *kept = ctx.saved_tensors
        heads, tokens = key.shape[1:3]
        gradient = _by_position(above[0], heads)
        for_queries = torch.empty_like(queries)
        for_key, for_value = torch.zeros_like(key[0]), torch.zeros_like(value[0])
        blocks = _blocks(tokens, ctx.sharing, heads)
        for weights, (_, end, rows, head) in zip(kept, blocks, strict=True):
            under = gradient[head, rows]
            for_value[head, :end].addmm_(weights.T, under)
            through = torch._softmax_backward_data(
                torch.mm(under, value[0, head, :end].T), weights, -1, weights.dtype
            )
            torch.mm(through, key[0, head, :end], out=for_queries[head, rows])
            for_key[head, :end].addmm_(through.T, queries[head, rows])
        for_queries *= ctx.scale
        return _by_head(for_queries, tokens), for_key[None], for_value[None], None


def _by_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
    lengths: Lengths,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = lengths.ends(query.device), max(lengths.tokens)
    out = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        ends,
        ends,
        longest,
        longest,
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return cast(torch.Tensor, out).unsqueeze(0)
