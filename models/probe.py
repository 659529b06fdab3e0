"""Logits of a few conversations: what tells whether an adapter was saved as it was trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.chat import IGNORED, Example

# Supervised tokens of each conversation, from its first on.
TOKENS = 8


@dataclass(frozen=True)
class Probe:
    """`logits` [tokens, vocabulary] in float32 and the `targets` [tokens] they should favour."""

    logits: Any
    targets: Any

    @classmethod
    def of(cls, model: Any, examples: Sequence[Example]) -> "Probe":
        """Of a causal LM in eval mode; conversation by conversation, so nothing is padded."""
        import torch

        logits, targets = [], []
        with torch.no_grad():
            for example in examples:
                labels = torch.tensor(example.labels[1:])
                keep = (labels != IGNORED).nonzero().squeeze(1)[:TOKENS]
                ids = torch.tensor([example.input_ids[: int(keep[-1]) + 1]]).to(model.device)
                out = model(input_ids=ids, use_cache=False).logits[0]
                logits.append(out[keep.to(out.device)].float().cpu())
                targets.append(labels[keep])
        return cls(torch.cat(logits), torch.cat(targets))

    @classmethod
    def read(cls, file: Path) -> "Probe":
        from safetensors.torch import load_file

        return cls(**load_file(file))

    def save(self, file: Path) -> None:
        from safetensors.torch import save_file

        save_file({"logits": self.logits, "targets": self.targets}, file)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats a token."""
        import torch

        return float(torch.nn.functional.cross_entropy(self.logits, self.targets))

    def distance(self, other: "Probe") -> float:
        """Root mean square of the difference of the logits, in standard deviations of ours."""
        difference = (self.logits - other.logits).square().mean().sqrt()
        return float(difference / self.logits.std())
