"""Packing, chunked loss and fused LoRA compute what the plain way computes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from models.attention import BLOCK, SHORT, isolated_attention
from models.chat import Example, encode_all
from models.lora import attach_lora, fuse, fused
from models.loss import CHUNK, chunked_loss, summed
from models.objective import Objective
from models.packing import Lengths, layout, pack, steps
from models.plan import TRACED_TOKENS, shape_of
from models.spec import Recipe
from tests.tiny import conversations

SMALL = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
CPU = torch.device("cpu")


def examples(*lengths: int) -> list[Example]:
    draw = torch.Generator().manual_seed(0)
    made = []
    for number, length in enumerate(lengths):
        ids = torch.randint(0, 300, (length,), generator=draw).tolist()
        learnt = tuple(-100 if at < length // 2 else token for at, token in enumerate(ids))
        made.append(Example(f"chat-{number}", tuple(ids), learnt))
    return made


def objective(config: Any, **recipe: Any) -> Objective:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.requires_grad_(False)
    tuned = attach_lora(model, Recipe(lora_rank=4, **recipe))
    for name, one in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.1)
    return Objective(tuned, pad_id=0)


# -- one loss, however it is laid out ------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL),
        Qwen2Config(**SMALL),
        MistralConfig(**SMALL, sliding_window=16),
        GraniteConfig(**SMALL, logits_scaling=4.0),
    ],
    ids=lambda config: config.model_type,
)
def test_packed_is_unpacked(config: Any) -> None:
    made = objective(config)
    assert made.settle(examples(40, 50), CPU, packing=None) is None
    assert made.packed
    some = examples(40, 7, 90, 23)
    with torch.no_grad():
        packed = float(made(**made.batch(some, CPU)))
        alone = sum(float(made(**made.batch([one], CPU))) for one in some)
        made.packed = False
        made.model.get_base_model().set_attn_implementation("sdpa")
        padded = float(made(**made.batch(some, CPU)))
    assert packed == pytest.approx(alone, rel=1e-5)
    assert packed == pytest.approx(padded, rel=1e-4)


def test_another_conversations_tokens_change_nothing(tiny_model: Path) -> None:
    made = objective(LlamaConfig(**SMALL))
    made.settle(examples(40, 50), CPU, packing=None)
    first, second, third = examples(30, 40, 40)
    with torch.no_grad():
        losses = {
            float(made(**made.batch([first, other], CPU))) - float(made(**made.batch([other], CPU)))
            for other in (second, third)
        }
    assert max(losses) - min(losses) < 1e-3


def test_a_model_that_packing_would_change_is_padded() -> None:
    made = objective(Gemma2Config(**SMALL, head_dim=8, query_pre_attn_scalar=8))
    why = made.settle(examples(40, 50), CPU, packing=None)
    assert why is not None
    assert "softcap" in why
    assert not made.packed
    some = examples(40, 7, 23)
    with torch.no_grad():
        together = float(made(**made.batch(some, CPU)))
        alone = sum(float(made(**made.batch([one], CPU))) for one in some)
    assert together == pytest.approx(alone, rel=1e-4)


def test_gradients_of_packed_and_padded_are_the_same() -> None:
    made = objective(LlamaConfig(**SMALL))
    some = examples(40, 7, 90)
    gradients = []
    for packing in (False, None):
        made.settle(some, CPU, packing=packing)
        made.zero_grad()
        made(**made.batch(some, CPU)).backward()
        gradients.append({n: p.grad.clone() for n, p in made.named_parameters() if p.requires_grad})
    for name, one in gradients[0].items():
        torch.testing.assert_close(one, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_nothing_to_take_has_no_loss_and_no_gradient() -> None:
    made = objective(LlamaConfig(**SMALL))
    made.settle(examples(40, 50), CPU, packing=None)
    loss = made(**made.batch([], CPU))
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in made.parameters() if p.grad is not None)


def test_the_encoded_text_comes_back_from_the_pack(tiny_model: Path) -> None:
    from models.base import Base
    from models.template import load_template

    base = Base(
        id="", revision=None, path=str(tiny_model), digest="", tokenizer_digest="", dtype="float32"
    )
    from data_contracts.records import Record

    records = [Record.model_validate({**row, "source": "x"}) for row in conversations(3)]
    encoded, _ = encode_all(load_template(base), records, 64)
    row = pack(encoded)
    at = 0
    for example, length in zip(encoded, row["lengths"].tokens, strict=True):
        assert tuple(row["input_ids"][0, at : at + length].tolist()) == example.input_ids
        assert row["position_ids"][0, at : at + length].tolist() == list(range(length))
        at += length
    assert len(row["keep"]) == sum(example.supervised for example in encoded)
    for place, target in zip(row["keep"].tolist(), row["targets"].tolist(), strict=True):
        assert row["input_ids"][0, place + 1] == target


# -- the parts -----------------------------------------------------------------------


def test_chunked_loss_has_the_loss_and_the_gradient_of_the_plain_one() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50).requires_grad_(False)
    targets = torch.randint(0, 50, (2 * CHUNK + 7,))
    plain = torch.randn(len(targets), 16, requires_grad=True)
    chunked = plain.detach().clone().requires_grad_()
    (3 * summed(head(plain), targets)).backward()
    loss = chunked_loss(chunked, targets, head)
    (3 * loss).backward()
    assert float(loss) == pytest.approx(float(summed(head(plain), targets)), rel=1e-6)
    torch.testing.assert_close(chunked.grad, plain.grad)


def test_attention_and_its_gradients_are_those_of_each_conversation_alone() -> None:
    torch.manual_seed(0)
    lengths = (1, BLOCK, 2 * BLOCK + 5, SHORT + 3)  # one block, some, and one that is too long
    shapes = [(1, heads, sum(lengths), 8) for heads in (6, 2, 2)]
    ours = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    plain = [one.detach().clone().requires_grad_() for one in ours]
    out, _ = isolated_attention(torch.nn.Module(), *ours, None, lengths=Lengths(lengths))
    parts = zip(*(one.split(lengths, 2) for one in plain), strict=True)
    alone = [scaled_dot_product_attention(*each, is_causal=True, enable_gqa=True) for each in parts]
    expected = torch.cat(alone, 2).transpose(1, 2)
    torch.testing.assert_close(out, expected)
    above = torch.randn_like(out)
    for one, other in zip(
        torch.autograd.grad(out, ours, above),
        torch.autograd.grad(expected, plain, above),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_tracing_a_model_leaves_attention_as_it_was() -> None:
    shape_of(LlamaConfig(**SMALL), Recipe(), element_bytes=4)
    query, key, value = (torch.randn(1, heads, TRACED_TOKENS, 8) for heads in (4, 2, 2))
    out, _ = isolated_attention(torch.nn.Module(), query, key, value, None)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(out, expected.transpose(1, 2))


@pytest.mark.parametrize("biased", [False, True])
def test_fused_lora_has_pefts_result_and_gradients(biased: bool) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(6, 5), torch.randn(6) if biased else None
    x, a, b = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 5), (4, 5), (6, 4))
    )
    weight = weight.double()
    bias = bias.double() if bias is not None else None
    torch.autograd.gradcheck(lambda x, a, b: fused(x, weight, bias, a, b, 0.5), (x, a, b))
    plain = torch.nn.functional.linear(x, weight, bias) + 0.5 * (x @ a.T) @ b.T
    torch.testing.assert_close(fused(x, weight, bias, a, b, 0.5), plain)


def test_layers_that_are_no_plain_lora_are_left_to_peft() -> None:
    config = LlamaConfig(**SMALL)
    counts: dict[str, int] = {}
    for name, recipe in {
        "plain": {},
        "dora": {"dora": True},
        "dropout": {"lora_dropout": 0.1},
    }.items():
        counts[name] = fuse(objective(config, **recipe).model)
    assert counts == {"plain": 14, "dora": 0, "dropout": 0}


def test_fused_and_pefts_model_agree() -> None:
    made = objective(LlamaConfig(**SMALL))
    plain = copy.deepcopy(made)
    assert fuse(made.model) == 14
    some = examples(40, 7)
    losses = []
    for one in (plain, made):
        loss = one(**one.batch(some, CPU))
        loss.backward()
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, one), other in zip(plain.named_parameters(), made.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


# -- who takes what ------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    ranks=st.integers(1, 5),
    budget=st.integers(1, 130),
    padded=st.booleans(),
)
def test_a_step_is_shared_out_whole_and_within_the_budget(
    lengths: list[int], ranks: int, budget: int, padded: bool
) -> None:
    plan = layout(lengths, range(len(lengths)), ranks, budget, padded=padded)
    assert sorted(plan.examples) == list(range(len(lengths)))
    assert len(plan.ranks) == ranks
    assert len({len(batches) for batches in plan.ranks}) == 1
    for batches in plan.ranks:
        for batch in batches:
            width = max((lengths[index] for index in batch), default=0)
            used = width * len(batch) if padded else sum(lengths[index] for index in batch)
            assert used <= budget or len(batch) == 1
    totals = [sum(lengths[i] for batch in rank for i in batch) for rank in plan.ranks]
    assert max(totals) - min(totals) <= max(lengths)


@given(count=st.integers(1, 50), batch=st.integers(1, 12), epochs=st.integers(1, 3))
def test_an_epoch_takes_every_conversation_once(count: int, batch: int, epochs: int) -> None:
    taken = steps(count, batch, epochs, None, seed=1)
    each = len(taken) // epochs
    for epoch in range(epochs):
        indices = [index for step in taken[epoch * each : (epoch + 1) * each] for index in step]
        assert sorted(indices) == list(range(count))
    assert taken == steps(count, batch, epochs, None, seed=1)
    assert len(steps(count, batch, epochs, 2, seed=1)) == min(2, len(taken))
