"""Checkpoints of a training: whole or not there, verified, independent of how many ranks made them.

One folder a checkpoint: the trained tensors in float32 with Adam's two moments (safetensors), how
far the training was, and the sha256 of both. It is written under another name and renamed.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.digests import digest_file
from data_contracts.partial import partial_folder, publish

STATE, PROGRESS, MANIFEST = "state.safetensors", "progress.json", "manifest.json"
KEPT = 2


class Progress(BaseModel):
    """How far a training was: what a resumed one starts from."""

    model_config = ConfigDict(frozen=True)

    step: int = 0
    losses: tuple[float, ...] = ()
    tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0
    resumed_from: tuple[int, ...] = ()
    best_step: int | None = None
    best_loss: float | None = None
    worse: int = 0


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    sha256: dict[str, str]


def save(folder: Path, progress: Progress, state: dict[str, Any]) -> None:
    """Write a checkpoint below `folder` and remove all but the last `KEPT`.

    Args:
        folder: of this training's checkpoints.
        progress: how far it is.
        state: {"weight/NAME", "exp_avg/NAME", "exp_avg_sq/NAME": float32 tensor}.

    Raises:
        OSError, safetensors.SafetensorError: it cannot be written, and those before it are whole.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    partial = partial_folder(folder)
    try:
        save_file(state, partial / STATE)
        (partial / PROGRESS).write_text(progress.model_dump_json(), encoding="utf-8")
        manifest = Manifest(
            sha256={name: digest_file(partial / name) for name in (STATE, PROGRESS)}
        )
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        final = folder / f"step-{progress.step:07d}"
        shutil.rmtree(final, ignore_errors=True)  # a damaged one of the same step
        publish(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def whole(folder: Path) -> Iterator[tuple[Path, Progress]]:
    """Checkpoints below `folder` that are as they were written, the newest first."""
    for one in _newest_first(folder):
        try:
            manifest = Manifest.model_validate_json((one / MANIFEST).read_text(encoding="utf-8"))
            if all(digest_file(one / name) == digest for name, digest in manifest.sha256.items()):
                yield one, _progress(one)
        except (OSError, ValueError, ValidationError):
            continue


def at(folder: Path, step: int) -> tuple[Path, Progress]:
    """The checkpoint of a step, which `whole` gave."""
    checkpoint = folder / f"step-{step:07d}"
    return checkpoint, _progress(checkpoint)


def count(folder: Path) -> int:
    """How many there are, whole or not."""
    return len(_newest_first(folder))


def read(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(checkpoint / STATE)
    return tensors


def _progress(checkpoint: Path) -> Progress:
    return Progress.model_validate_json((checkpoint / PROGRESS).read_text(encoding="utf-8"))


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)
