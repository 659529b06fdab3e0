"""Export: a version as a folder that others load without Evergreen.

The adapter alone, as PEFT and vLLM take it, or merged into its base, as transformers takes it.
The folder appears only when it is whole, has been loaded back, and has answered as the version in
the registry does. vLLM itself is not run (`tasks.vllm`).
"""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.digests import digest_file
from data_contracts.errors import ConfigError, ModelError
from data_contracts.partial import partial_folder, publish
from data_contracts.permissions import let_others_read
from data_contracts.records import Message
from models.adapters import CONFIG, ORIGIN, WEIGHTS, load_model
from models.base import TOKENIZER_PATTERNS, Base, load_weights, torch_dtype
from models.chat import Example, encode
from models.probe import Probe
from models.template import ChatTemplate, Dialogue, load_template
from tasks.card import export_card
from tasks.documents import CARD, LINEAGE, VERDICT, Documents
from tasks.lineage import hub_id
from tasks.registry import LoadedVersion
from tasks.vllm import Serving, adapter_serving, merged_serving

SUMS = "SHA256SUMS"
CHAT = (
    Message(role="user", content="Hello! Who are you?"),
    Message(role="assistant", content="I am an assistant. What can I do for you today?"),
)
LENGTH = 512

# What logits may differ by, in their standard deviations. What is read back computes as before it
# was written. Merged weights are rounded to the base's dtype, as the base's own were: on the
# bundled model 0.03 to 0.05 in bfloat16, 0.004 in float16, 2e-6 in float32.
READ_TOLERANCE = 1e-4
MERGED_TOLERANCE = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.15}


class Exported(BaseModel):
    """A folder that was written. `distance` is what its logits differ by from the version's, in
    their standard deviations; `files` are {name: sha256}."""

    model_config = ConfigDict(frozen=True)

    version: str
    folder: str
    merged: bool
    files: dict[str, str]
    distance: float
    tolerance: float
    serving: Serving


@dataclass(frozen=True)
class Said:
    """Logits of the fixed chat: of the version, of its base without the adapter, and of what is
    written, before it is: the version itself or, merged, the merged model."""

    examples: list[Example]
    version: Probe
    base: Probe
    written: Probe

    @classmethod
    def of(cls, model: Any, template: ChatTemplate) -> "Said":
        """Of a PEFT model."""
        examples = _fixed_chat(template)
        version = Probe.of(model, examples)
        with model.disable_adapter():
            base = Probe.of(model, examples)
        return cls(examples, version, base, written=version)

    def merged(self, model: Any) -> "Said":
        """With the merged model as what is written."""
        return replace(self, written=Probe.of(model, self.examples))


def export(
    version: LoadedVersion, documents: Documents, folder: Path, *, merged: bool = False
) -> Exported:
    """Write a version into a new folder.

    Args:
        version: what to export, its base on this machine.
        documents: its lineage, verdict and card, as far as there are any.
        folder: is made; may exist if it is empty.
        merged: the adapter added to the base's weights, in the base's dtype, in place of the
            adapter alone.

    Raises:
        ConfigError: the folder is not empty, or cannot be made there.
        ModelError: the version cannot be loaded, or what was written answers differently: by more
            than `READ_TOLERANCE`, or merged by more than `MERGED_TOLERANCE`, in standard deviations
            of the logits. Nothing is left of it then.
    """
    folder = folder.absolute()
    require_free(folder)
    partial = partial_folder(folder.parent)
    try:
        model = load_model(version.base, version.adapter)
        said = Said.of(model, load_template(version.base))
        if merged:
            model = model.merge_and_unload(safe_merge=True)
            said = said.merged(model)
            model.save_pretrained(partial)
        else:
            _write_adapter(version, partial)
        _copy_tokenizer(version.base, partial)
        del model  # the next one needs its memory
        distance = check(partial, version.base, said, merged=merged)
        name = version.version.name
        serving = merged_serving(folder) if merged else adapter_serving(partial, name, folder)
        # The folder may be moved: its README names no place.
        anywhere = serving.model_copy(
            update={"reason": serving.reason.replace(str(folder), "THIS_FOLDER")}
        )
        _write_documents(
            documents, partial, anywhere, version.base.chat_template_kwargs, merged=merged
        )
        files = _sums(partial)
        let_others_read(partial)  # who serves it may be another user
        publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(
        version=version.version.version,
        folder=str(folder),
        merged=merged,
        files=files,
        distance=distance,
        tolerance=tolerance(version.base, merged=merged),
        serving=serving,
    )


def _fixed_chat(template: ChatTemplate) -> list[Example]:
    return encode(template, "chat", Dialogue(CHAT), LENGTH)[0]


def require_free(folder: Path) -> None:
    """Raises ConfigError: nothing can be written there, or something is."""
    if not folder.parent.is_dir():
        raise ConfigError(f"there is no folder {folder.parent}", "create it first")
    if not os.access(folder.parent, os.W_OK):
        raise ConfigError(f"{folder.parent} cannot be written", "choose another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already, and not empty", "choose another folder")


def tolerance(base: Base, *, merged: bool) -> float:
    """What the export may differ by from the version."""
    if not merged:
        return READ_TOLERANCE
    return MERGED_TOLERANCE[str(torch_dtype(base.dtype)).removeprefix("torch.")]


def check(folder: Path, base: Base, said: Said, *, merged: bool) -> float:
    """Load an export back, as others do, and compare what it says.

    Returns:
        the root mean square of the difference of its logits from the version's, in their standard
        deviations

    Raises:
        ModelError: it cannot be loaded, is not what was written, differs from the version by more
            than `tolerance`, or, merged, is no nearer to it than to the base: then rounding took
            away what the adapter learnt.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    there = base.model_copy(update={"path": str(folder)})
    try:
        if merged:
            model = load_weights(there)
        else:
            model = PeftModel.from_pretrained(load_weights(base), folder)
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"what was exported cannot be loaded back ({type(error).__name__})",
            "export again; if that does not help, report this",
        ) from error
    if _fixed_chat(load_template(there)) != said.examples:
        raise ModelError("the exported tokenizer is another one", "export again, and report this")
    found = Probe.of(model.to(_device()).eval(), said.examples)
    distance, most = said.version.distance(found), tolerance(base, merged=merged)
    if not (said.written.distance(found) <= READ_TOLERANCE and distance <= most):
        raise ModelError(
            f"what was exported answers differently from the version: its logits are {distance:.2g}"
            f" standard deviations away, {most:g} at most are due to rounding",
            "export again; if that does not help, report this",
        )
    if merged and not found.distance(said.version) < found.distance(said.base):
        raise ModelError(
            "merged in the base's number format, what the adapter learnt is lost in rounding",
            "export the adapter alone, or retrain with a model.dtype of more digits",
        )
    return distance


def _device() -> str:
    """Where `load_model` puts a model."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _write_adapter(version: LoadedVersion, folder: Path) -> None:
    source = Path(version.adapter.path)
    for name in (WEIGHTS, ORIGIN):
        shutil.copyfile(source / name, folder / name)
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    hub = hub_id(version.base)
    config["base_model_name_or_path"] = hub or version.base.path
    config["revision"] = version.base.revision if hub else None
    _write_json(folder / CONFIG, config)


def _copy_tokenizer(base: Base, folder: Path) -> None:
    """The very files, not what the library makes of them, so that their digest stays the same."""
    for pattern in TOKENIZER_PATTERNS:
        for file in Path(base.path).glob(pattern):
            shutil.copyfile(file, folder / file.name)


def _write_documents(
    documents: Documents,
    folder: Path,
    serving: Serving,
    chat_template_kwargs: dict[str, Any],
    *,
    merged: bool,
) -> None:
    for name in (LINEAGE, VERDICT):
        if name in documents.texts:
            (folder / name).write_text(documents.texts[name], encoding="utf-8")
    card = export_card(
        documents.texts.get(CARD),
        documents.version,
        serving,
        chat_template_kwargs,
        merged=merged,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _sums(folder: Path) -> dict[str, str]:
    """{file: sha256} of the folder, written beside them as `sha256sum -c` reads it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): digest_file(path) for path in files}
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / SUMS).write_text(text, encoding="utf-8")
    return sums


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
