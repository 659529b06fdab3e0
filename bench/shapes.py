"""Llamas in the shapes of real ones: speed and memory do not depend on what the weights are."""

from pathlib import Path
from typing import Any

import torch

from models.base import Base, ModelSettings, load_config, load_tokenizer, resolve_base
from models.memory import release

# Hidden size, inner size, layers, heads, key heads, and whether the head is the embedding.
SHAPES = {
    "40M": (384, 1024, 12, 6, 2, True),
    "360M": (960, 2560, 32, 15, 5, True),
    "3B": (3072, 8192, 28, 24, 8, False),
    "8B": (4096, 14336, 32, 32, 8, False),
    "70B": (8192, 28672, 80, 64, 8, False),
}


def llama(shape: str, vocabulary: int) -> Any:
    from transformers import LlamaConfig

    hidden, inner, layers, heads, key_heads, tied = SHAPES[shape]
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=tied,
    )


def random_base(shape: str, like: Base, folder: Path, store: Path) -> Base:
    """Random weights below `folder`, with the tokenizer and the vocabulary of `like`."""
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(like)
    config = llama(shape, load_config(like).vocab_size)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder / shape)
    tokenizer.save_pretrained(folder / shape)
    del model
    release()
    return resolve_base(ModelSettings(base=str(folder / shape)), store)
