"""Attention for packed conversations: each sees itself alone, and nothing is padded.

Several conversations lie one after the other in one row of tokens, and every layer but attention
treats them as that. Attention is computed conversation by conversation: on a GPU by torch's
variable-length flash attention, on a CPU conversation by conversation: short ones by matrix
products that stay in a core's cache, which take half as long as torch's fused kernel there.
"""

from functools import lru_cache
from typing import Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "isolated"
# Tokens up to which a conversation's weights [tokens, tokens] are kept for the backward pass.
SHORT = 512


def register() -> None:
    """Make `attn_implementation="isolated"` known to transformers, with no mask to build for it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, isolated_attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)


def isolated_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - transformers' interface
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    lengths: tuple[int, ...] | None = None,
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
        lengths: tokens of each conversation, in order; they sum up to `tokens`.

    Raises:
        NotImplementedError: the model asks for what this does not do (soft caps, sinks,
            attention in both directions).
    """
    unsupported = {"softcap", "s_aux", "position_bias"}
    unknown = {name for name in unsupported if others.get(name) is not None}
    if unknown or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"isolated attention without {unknown or 'a causal mask'}")
    lengths = lengths or (query.shape[2],)
    if query.is_cuda and dropout == 0:
        return _by_flash(query, key, value, scaling, sliding_window, lengths), None
    window = sliding_window or query.shape[2]
    # Split, not sliced: the gradient of each slice would be as large as the whole.
    split = zip(*(torch.split(one, list(lengths), 2) for one in (query, key, value)), strict=True)
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
    if length <= min(window, SHORT) and dropout == 0:
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


@lru_cache(maxsize=32)
def _future(length: int, heads: int, dtype: torch.dtype) -> torch.Tensor:
    """What hides later tokens, [heads x length, length]; the same in every layer."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1).repeat(heads, 1)


class _Short(torch.autograd.Function):
    """Causal attention, one key head with all queries that share it at a time."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        heads, length, size = key.shape[1], query.shape[2], query.shape[3]
        queries = (query[0] * scale).reshape(heads, -1, size)
        out = torch.empty(heads, queries.shape[1], value.shape[3], dtype=query.dtype)
        weights = torch.empty(heads, queries.shape[1], length, dtype=query.dtype)
        future = _future(length, queries.shape[1] // length, query.dtype)
        for head in range(heads):
            scores = torch.addmm(future, queries[head], key[0, head].T)
            torch.softmax(scores, -1, out=weights[head])
            torch.mm(weights[head], value[0, head], out=out[head])
        ctx.save_for_backward(queries, key, value, weights)
        ctx.scale = scale
        return out.view(1, query.shape[1], length, -1)

    @staticmethod
    def backward(ctx: Any, *above: Any) -> tuple[Any, ...]:
        queries, key, value, weights = ctx.saved_tensors
        gradient = above[0][0].reshape(key.shape[1], -1, value.shape[3])
        for_queries = torch.empty_like(queries)
        for_key, for_value = torch.empty_like(key[0]), torch.empty_like(value[0])
        for head in range(key.shape[1]):
            own, under = weights[head], gradient[head]
            for_value[head] = torch.mm(own.T, under)
            through = torch._softmax_backward_data(
                torch.mm(under, value[0, head].T), own, -1, own.dtype
            )
            torch.mm(through, key[0, head], out=for_queries[head])
            for_key[head] = torch.mm(through.T, queries[head])
        for_queries *= ctx.scale
        return (
            for_queries.view(above[0].shape[:-1] + key.shape[-1:]),
            for_key[None],
            for_value[None],
            None,
        )


def _by_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
    lengths: tuple[int, ...],
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor((0, *lengths), device=query.device).cumsum(0).int()
    out = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        ends,
        ends,
        max(lengths),
        max(lengths),
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return cast(torch.Tensor, out).unsqueeze(0)
