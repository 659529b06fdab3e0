"""Answers from a model, many at a time."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.records import Message
from models.score import batches
from models.template import ChatTemplate, Conversation, Dialogue

BATCH_TOKENS = 16_384


class Answer(BaseModel):
    """What a model said: its text, its tokens, and its share of its batch's seconds."""

    model_config = ConfigDict(frozen=True)

    text: str
    tokens: int
    seconds: float


def answer(
    model: Any, template: ChatTemplate, messages: Sequence[Message], *, max_new_tokens: int = 64
) -> str:
    """The model's greedy reply to `messages`, which end with a user turn."""
    prompts = [Dialogue(messages)]
    return answers(model, template, prompts, max_new_tokens=max_new_tokens)[0].text


def answers(
    model: Any,
    template: ChatTemplate,
    prompts: Sequence[Conversation],
    *,
    max_new_tokens: int = 64,
    sample_seed: int | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Answer]:
    """The model's reply to each prompt, in order; a prompt ends with a user turn.

    Greedy, or drawn from the model's own distribution (temperature 1) with `sample_seed`.

    Raises:
        TemplateRefusal: the chat template does not take a prompt.
    """
    tokenizer = template.tokenizer
    encoded = [
        tokenizer(template.write_prompt(prompt), add_special_tokens=False)["input_ids"]
        for prompt in prompts
    ]
    found = continuations(
        model,
        encoded,
        pad_id=tokenizer.pad_token_id,
        max_new_tokens=max_new_tokens,
        sample_seed=sample_seed,
        on_progress=on_progress,
    )
    return [
        Answer(
            text=template.read_answer(ids),
            tokens=len(ids),
            seconds=seconds,
        )
        for ids, seconds in found
    ]


def continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    pad_id: int,
    max_new_tokens: int,
    sample_seed: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[tuple[list[int], float]]:
    """(token ids that follow, seconds) of each prompt of token ids, in order.

    Prompts of about the same length share a batch, so that little of it is padding
    (`models.score.batches`); a batch has at most `batch_tokens`, those to come included.
    """
    import torch

    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    results: dict[int, tuple[list[int], float]] = {}
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        if sample_seed is not None:
            torch.manual_seed(sample_seed)
        widths = [len(prompts[i]) + max_new_tokens for i in order]
        for batch in batches(widths, batch_tokens, passes=max_new_tokens):
            batch = [order[place] for place in batch]
            began = time.perf_counter()
            width = max(len(prompts[index]) for index in batch)
            ids = torch.full((len(batch), width), pad_id)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, width - len(prompts[index]) :] = torch.tensor(prompts[index])
                mask[row, width - len(prompts[index]) :] = 1
            output = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=sample_seed is not None,
                **({} if sample_seed is None else {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
                pad_token_id=pad_id,
            )[:, width:].tolist()
            seconds = (time.perf_counter() - began) / len(batch)
            ends = _end_ids(model)
            for index, row in zip(batch, output, strict=True):
                results[index] = (_until_end(row, ends), seconds)
            on_progress(len(results), len(prompts))
    return [results[index] for index in range(len(prompts))]


def _end_ids(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    """Without the end of turn and the padding that follows it in a batch."""
    return next((ids[:at] for at, token in enumerate(ids) if token in ends), ids)
