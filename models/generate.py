"""Answers from a model."""

from collections.abc import Sequence
from typing import Any

from data_contracts.records import Message
from models.chat import render


def answer(
    model: Any, tokenizer: Any, messages: Sequence[Message], *, max_new_tokens: int = 64
) -> str:
    """The model's greedy reply to `messages`, which end with a user turn."""
    import torch

    encoding = tokenizer(
        render(tokenizer, messages, prompt=True), add_special_tokens=False, return_tensors="pt"
    ).to(model.device)
    with torch.inference_mode():
        output = model.generate(
            **encoding,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    reply: str = tokenizer.decode(
        output[0, encoding["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return reply.strip()
