"""Whether vLLM can serve an export: what its documentation says, as vLLM itself is not run here.

https://docs.vllm.ai/en/latest/features/lora/ and /api/vllm/lora/peft_helper/: its loader refuses
DoRA, modules trained as a whole, biases, and ranks above `--max-lora-rank`. Whether it knows a
base's architecture, and LoRA on it, is in its list of models.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from models.adapters import CONFIG

# What `--max-lora-rank` takes.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class Serving(BaseModel):
    """`reason` is the command that serves it, or why there is none."""

    model_config = ConfigDict(frozen=True)

    vllm: bool
    reason: str


def adapter_serving(adapter: Path, name: str, folder: Path) -> Serving:
    """Of a PEFT folder beside its base.

    Args:
        adapter: where it is now.
        name: what the server is to call it.
        folder: where it will be.
    """
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    features = {
        "DoRA": config.get("use_dora"),
        "modules_to_save": config.get("modules_to_save"),
        "biases": config.get("bias", "none") != "none",
        f"a rank of {rank}": rank > RANKS[-1],
    }
    if refused := " or ".join(feature for feature, there in features.items() if there):
        reason = f"vLLM loads no adapter with {refused}; exported with --merged it needs none"
        return Serving(vllm=False, reason=reason)
    limit = next(allowed for allowed in RANKS if allowed >= rank)
    return Serving(
        vllm=True,
        reason=f"vllm serve {config['base_model_name_or_path']} --enable-lora"
        f" --max-lora-rank {limit} --lora-modules {name}={folder}",
    )


def merged_serving(folder: Path) -> Serving:
    """Of merged weights, which are a model like any other."""
    return Serving(vllm=True, reason=f"vllm serve {folder}")
