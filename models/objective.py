"""What is minimised: the summed loss of supervised tokens, packed where the model allows it."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import NAME as ISOLATED
from models.attention import register
from models.chat import IGNORED, Example, collate
from models.loss import chunked_loss, summed
from models.packing import pack

# bfloat16 has 8 bits of mantissa; attending to another conversation changes far more.
TOLERANCE = 0.02


class Objective(nn.Module):
    """A PEFT model whose forward pass returns a summed loss (nats).

    Args:
        model: the PEFT model.
        pad_id: the tokenizer's padding id.
        whole_head: whether all logits of a pass are made in one call, as ZeRO-3 needs: every call
            gathers the head's weights from all ranks, which must make as many.
    """

    def __init__(self, model: Any, pad_id: int, *, whole_head: bool = False) -> None:
        super().__init__()
        self.model = model
        self.packed = False
        self._pad_id = pad_id
        self._chunk_size = sys.maxsize if whole_head else None
        causal = model.get_base_model()
        self._plain = causal.config._attn_implementation
        head = causal.get_output_embeddings()
        # A head that learns needs its own gradient, which the chunked loss does not make.
        self._chunked = (
            head is not None
            and hasattr(causal, causal.base_model_prefix)
            and not any(p.requires_grad for p in head.parameters())
        )

    def forward(self, keep: Tensor, targets: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The loss of `targets` [supervised], predicted at the flat places `keep` [supervised]."""
        causal = self.model.get_base_model()
        if not self._chunked:
            logits = causal(**inputs, use_cache=False).logits
            return summed(logits.flatten(0, 1)[keep], targets)
        body = getattr(causal, causal.base_model_prefix)
        hidden = body(**inputs, use_cache=False).last_hidden_state
        return chunked_loss(
            hidden.flatten(0, 1)[keep], targets, causal.get_output_embeddings(), self._chunk_size
        )

    def batch(self, examples: Sequence[Example], device: Any) -> dict[str, Any]:
        """The arguments of the forward pass; without examples, of one that has no loss."""
        examples = examples or [Example("", (self._pad_id,), (self._pad_id,))]
        if self.packed:
            inputs = pack(examples)
            keep, targets = inputs.pop("keep"), inputs.pop("targets")
        else:
            inputs = collate(examples, self._pad_id)
            labels = inputs.pop("labels")[:, 1:]
            following = nn.functional.pad(labels, (0, 1), value=IGNORED).flatten()
            keep = (following != IGNORED).nonzero().squeeze(1)
            targets = following[keep]
        return {
            "keep": keep.to(device),
            "targets": targets.to(device),
            "inputs": {
                name: one.to(device) if isinstance(one, Tensor) else one
                for name, one in inputs.items()
            },
        }

    def settle(self, examples: Sequence[Example], device: Any, packing: bool | None) -> str | None:
        """Choose how losses are computed by trying it on two conversations.

        The model's own logits, conversation by conversation, are the truth. What differs from
        them (a head that scales its logits, layers that see across conversations) is not used.

        Returns:
            Why conversations are padded although packing was not refused; None otherwise.
        """
        two = [shortened(example) for example in examples[:2]]
        chunked, self._chunked, self.packed = self._chunked, False, False
        truth = [self._measure([one], device) for one in two]
        self._chunked = chunked
        if chunked and self._differs(two[:1], device, truth[0]):
            self._chunked = False
        if packing is False:
            return None
        causal = self.model.get_base_model()
        if not getattr(causal, "_supports_attention_backend", False):
            return "its attention cannot be replaced"
        register()
        causal.set_attn_implementation(ISOLATED)
        self.packed = True
        reason = self._differs(two, device, sum(truth))
        if reason is not None:
            causal.set_attn_implementation(self._plain)
            self.packed = False
        return reason

    def _differs(self, examples: Sequence[Example], device: Any, truth: float) -> str | None:
        """Why the loss is not the true one, None if it is."""
        try:
            if close(self._measure(examples, device), truth):
                return None
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a model that cannot do it does it otherwise
            return (str(error).strip() or type(error).__name__).splitlines()[0]
        return "its layers see across packed conversations"

    @torch.no_grad()
    def _measure(self, examples: Sequence[Example], device: Any) -> float:
        return float(self(**self.batch(examples, device)))


def shortened(example: Example, tokens: int = 64) -> Example:
    """At most so many tokens of it, about its first supervised one."""
    first = next(at for at, label in enumerate(example.labels) if label != IGNORED)
    start = max(0, first - tokens // 2)
    part = slice(start, start + tokens)
    return Example(example.id, example.input_ids[part], example.labels[part])


def close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * abs(other) + 1e-3
