"""The learned detector: built once, on invented data, and found again after that."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.code_version import code_version
from data_contracts.digests import digest_folder, digest_json
from data_contracts.errors import ModelError
from data_contracts.partial import partial_folder, publish
from data_contracts.policy import ScrubPolicy
from data_contracts.workspace import HomePath, Workspace
from models.spec import DetectorTraining
from tasks.progress import StageProgress
from tasks.scrub.ordinary_words import FILE as ORDINARY_WORDS
from tasks.stage import stage_task


class DetectorSettings(DetectorTraining):
    """The learned detector of personal data."""

    folder: Path | None = Field(
        default=None,
        description="Where it is, or is built if it is missing; default below EVERGREEN_HOME.",
    )


class BuiltDetector(BaseModel):
    """A detector's folder and the digest of what is in it."""

    model_config = ConfigDict(frozen=True)

    path: HomePath
    digest: str


def built(
    policy: ScrubPolicy,
    settings: DetectorSettings,
    workspace: Workspace,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> BuiltDetector | None:
    """The detector that these settings ask for, trained if it is not there yet; None if the
    policy does without.

    Raises:
        ModelError: the bundled encoder is not installed, or the folder holds something else.
    """
    if not policy.detector:
        return None
    folder = folder_of(settings, workspace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            _train(settings, folder, on_progress)
    if not (folder / "shape.json").is_file():
        raise ModelError(f"there is no detector in {folder}", "correct scrub.detector.folder")
    return BuiltDetector(path=str(folder), digest=digest_folder(folder))


def folder_of(settings: DetectorSettings, workspace: Workspace) -> Path:
    """Where the detector is, or will be: named by what it is made of."""
    recipe = settings.model_dump(mode="json", exclude={"folder"})
    name = digest_json({"recipe": recipe, "code": code_version(_train)})[:16]
    return settings.folder or workspace.models / f"detector-{name}"


def _train(
    settings: DetectorSettings, folder: Path, on_progress: Callable[[int, int], None]
) -> None:
    from safetensors import SafetensorError

    from models.train_detector import train
    from tasks.scrub.synthetic.corpus import corpus
    from tasks.scrub.synthetic.ordinary import ordinary_words

    on_progress(0, settings.texts)
    texts = list(corpus(settings.texts, settings.seed))
    partial = partial_folder(folder.parent)
    try:
        train(texts, settings, partial, lambda done, of, _loss: on_progress(done, of))
        words = json.dumps(ordinary_words(), ensure_ascii=False)
        (partial / ORDINARY_WORDS).write_text(words, encoding="utf-8")
        publish(partial, folder)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write {folder} ({error})", "make room on its disk") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@stage_task(
    "detector",
    produces="models/detector",
    description="The learned detector of personal data, built once.",
    cached=False,
)
def detector_task(
    policy: ScrubPolicy, settings: DetectorSettings, workspace: Workspace
) -> BuiltDetector | None:
    @cache
    def progress() -> StageProgress:  # only if there is something to do
        return StageProgress("detector", "texts")

    return built(policy, settings, workspace, lambda done, of: progress()(done, of))
