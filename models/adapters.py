"""LoRA adapters on disk: save, check, load. A broken one is refused, never half-loaded."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.digests import digest_folder
from data_contracts.errors import ModelError
from data_contracts.workspace import HomePath
from models.base import Base, load_weights

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ORIGIN = "evergreen.json"


class Adapter(BaseModel):
    """A reference to an adapter folder and the digest of all that is in it."""

    model_config = ConfigDict(frozen=True)

    path: HomePath
    digest: str

    @classmethod
    def at(cls, folder: Path) -> "Adapter":
        return cls(path=str(folder), digest=digest_folder(folder))

    def verify(self) -> None:
        """Raise ModelError unless the folder is what it was when this reference was made."""
        folder = Path(self.path)
        if not folder.is_dir() or digest_folder(folder) != self.digest:
            raise _refused(folder, "it is missing or was changed after it was made")


class Origin(BaseModel):
    """Which weights and tokenizer an adapter belongs to; kept beside its weights."""

    model_config = ConfigDict(frozen=True)

    base_id: str
    base_digest: str
    tokenizer_digest: str


def save_adapter(model: Any, folder: Path, base: Base) -> None:
    """Write a (gathered) PEFT model's adapter and where it belongs, then check what was written."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a model card, unfilled
    _settle_config(folder / CONFIG, base)
    origin = Origin(
        base_id=base.id, base_digest=base.digest, tokenizer_digest=base.tokenizer_digest
    )
    (folder / ORIGIN).write_text(origin.model_dump_json(indent=2) + "\n", encoding="utf-8")
    check_tensors(folder)


def _settle_config(file: Path, base: Base) -> None:
    """Give the same adapter the same digest wherever it is trained: PEFT writes sets in any order,
    and the folder that the base was in."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.id
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_tensors(folder: Path) -> None:
    """Raise ModelError unless every tensor is there, non-empty, finite, and trained.

    LoRA's B starts at zero, so a B that is still all zeros never learnt anything;
    ZeRO-3 saves empty tensors where parameters were not gathered first.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise _refused(folder, f"{WEIGHTS} cannot be read ({type(error).__name__})") from error
    if not tensors:
        raise _refused(folder, "it holds no tensors")
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            raise _refused(folder, f"{name} is empty")
        if not bool(tensor.isfinite().all()):
            raise _refused(folder, f"{name} has NaN or infinite values")
    trained = [name for name in tensors if "lora_B" in name]
    if not trained or not any(bool(tensors[name].any()) for name in trained):
        raise _refused(folder, "every lora_B is zero: nothing was learnt")


def load_model(
    base: Base, adapter: Adapter | None = None, quantize: Literal["none", "nf4"] = "none"
) -> Any:
    """The base, with `adapter` on it if given, frozen and in eval mode.

    Raises:
        ModelError: the adapter is damaged, belongs to another base or tokenizer, or
            does not fit the model tensor by tensor.
    """
    model = load_weights(base, quantize)
    if _cuda() and quantize == "none":
        model = model.cuda()
    if adapter is not None:
        model = apply(model, base, adapter)
    return model.eval()


def apply(model: Any, base: Base, adapter: Adapter) -> Any:
    """`adapter` on a loaded base. Raises ModelError as `load_model` does."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    folder = Path(adapter.path)
    adapter.verify()
    check_tensors(folder)
    try:
        origin = Origin.model_validate(json.loads((folder / ORIGIN).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise _refused(folder, f"{ORIGIN} is missing or unreadable") from error
    if origin.base_digest != base.digest:
        raise _refused(folder, f"it was trained on other weights ({origin.base_id})")
    if origin.tokenizer_digest != base.tokenizer_digest:
        raise _refused(folder, "it was trained with another tokenizer")
    try:
        config = PeftConfig.from_pretrained(folder)
        # PEFT looks into the base's folder, which was another one where the adapter was trained.
        config.base_model_name_or_path = base.path
        model = PeftModel.from_pretrained(model, folder, config=config).eval()
    except (RuntimeError, ValueError, KeyError) as error:
        raise _refused(folder, f"it does not fit the base ({type(error).__name__})") from error
    expected, found = set(get_peft_model_state_dict(model)), set(load_file(folder / WEIGHTS))
    if expected != found:
        raise _refused(folder, f"{len(expected ^ found)} tensors are missing or left over")
    return model


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _refused(folder: Path, why: str) -> ModelError:
    return ModelError(f"the adapter in {folder} is refused: {why}", "train it again")
