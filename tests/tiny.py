"""A language model small enough to train in a second, and conversations it can learn."""

import json
import random
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CITIES = ["oslo", "lima", "rome", "cairo", "quito", "delhi", "paris", "tokyo", "turin", "accra"]
WEATHER = ["warm", "cold", "windy", "rainy", "sunny", "foggy", "mild", "humid"]


def make_tiny_model(folder: Path, *, hidden: int = 64, head: float = 1.0) -> Path:
    """`head` scales the frozen output weights: random ones of 1 leave an adapter little to say."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    from tokenizers.trainers import BpeTrainer

    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer.train_from_iterator(
        [row["messages"][turn]["content"] for row in conversations(200) for turn in (0, 1)],
        BpeTrainer(
            vocab_size=512,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    model.lm_head.weight.data *= head
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def conversations(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Distinct conversations with a pattern that a tiny model picks up at once."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        city, weather = draw.choice(CITIES), draw.choice(WEATHER)
        rows.append(
            {
                "id": f"chat-{seed}-{number}",
                "messages": [
                    {"role": "user", "content": f"how is it in {city} on day {number}?"},
                    {
                        "role": "assistant",
                        "content": f"it is {weather} and {draw.choice(WEATHER)} in {city},"
                        f" and {draw.choice(WEATHER)} by the sea.",
                    },
                ],
                "created_at": "2026-01-02T03:04:05Z",
            }
        )
    return rows


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
