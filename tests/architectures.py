"""Tiny models in the shapes of known families, with templates that behave as theirs do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.families import FAMILIES, chat_template

SIZES: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 512,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
SIXTEEN = {**GROUPED, "head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "head_dim": 8,
}  # fmt: skip
SEEING = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


def _gemma3_that_sees(vocab_size: int) -> Any:
    text = transformers.Gemma3TextConfig(
        vocab_size=vocab_size, query_pre_attn_scalar=16, sliding_window=64, **SIXTEEN
    )
    return transformers.Gemma3Config(
        text_config=text.to_dict(), vision_config=SEEING, mm_tokens_per_image=4
    )


MODELS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "llama": ("llama", lambda size: transformers.LlamaConfig(vocab_size=size, **GROUPED)),
    "qwen2": (
        "chatml",
        lambda size: transformers.Qwen2Config(vocab_size=size, tie_word_embeddings=True, **GROUPED),
    ),
    "qwen3": (
        "qwen3",
        lambda size: transformers.Qwen3Config(vocab_size=size, tie_word_embeddings=True, **SIXTEEN),
    ),
    "qwen3 moe": (
        "qwen3",
        lambda size: transformers.Qwen3MoeConfig(vocab_size=size, **SIXTEEN, **EXPERTS),
    ),
    "mixtral": (
        "mistral",
        lambda size: transformers.MixtralConfig(
            vocab_size=size, num_local_experts=4, num_experts_per_tok=2, **GROUPED
        ),
    ),
    "gemma 2": (
        "gemma",
        lambda size: transformers.Gemma2Config(
            vocab_size=size, query_pre_attn_scalar=16, sliding_window=64, **SIXTEEN
        ),
    ),
    "gemma 3": (
        "gemma",
        lambda size: transformers.Gemma3TextConfig(
            vocab_size=size, query_pre_attn_scalar=16, sliding_window=64, **SIXTEEN
        ),
    ),
    "gemma 3 that sees": ("gemma", _gemma3_that_sees),
    "mistral": (
        "mistral",
        lambda size: transformers.MistralConfig(vocab_size=size, sliding_window=32, **GROUPED),
    ),
    "phi 3": (
        "phi3",
        lambda size: transformers.Phi3Config(vocab_size=size, pad_token_id=0, **GROUPED),
    ),
    "gpt 2": (
        "chatml",
        lambda size: transformers.GPT2Config(vocab_size=size, n_embd=64, n_layer=2, n_head=4),
    ),
    "gpt neox": ("glm", lambda size: transformers.GPTNeoXConfig(vocab_size=size, **SIZES)),
    "deepseek": (
        "deepseek",
        lambda size: transformers.DeepseekV3Config(vocab_size=size, **{**GROUPED, **LATENT}),
    ),
}


def make_model(name: str, tiny_model: Path, folder: Path, template: str | None = None) -> Path:
    """A model of a family with random weights, and the family's template or another."""
    family, config = MODELS[name]
    tokenizer = chat_template(tiny_model, template or FAMILIES[family]).tokenizer
    made = config(len(tokenizer))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
