"""Tasks of EleutherAI's lm-evaluation-harness: accuracy, document by document.

An extra, `pip install evergreen-llm[lm-eval]`. The tasks that come with it fetch their data from
the Hugging Face Hub; tasks of one's own may read local files.
"""

from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.digests import Json, digest_folder
from data_contracts.errors import ConfigError
from tasks.evaluate.measures import Measure, Measures

PACKAGE = "lm_eval"
# Of a task's metrics the first that it has.
ACCURACIES = ("acc", "exact_match")
BATCH = 8


class HarnessSettings(BaseModel):
    """Optional tasks of lm-evaluation-harness."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: tuple[str, ...] = Field(
        default=(), description="Their names, `[arc_easy, boolq]`; needs the extra `lm-eval`."
    )
    limit: int = Field(default=100, ge=1, description="Documents of a task, the first so many.")
    include_path: Path | None = Field(
        default=None, description="A folder with tasks of your own, in the harness's YAML."
    )


def identity(settings: HarnessSettings) -> Json:
    """What decides the results on a model: the settings, tasks of one's own, and the harness.

    Raises:
        ConfigError: the harness is not installed.
    """
    own = settings.include_path
    return {
        "settings": settings.model_dump(mode="json", exclude={"include_path"}),
        "own": digest_folder(own) if own is not None and own.is_dir() else None,
        "harness": _version(),
    }


def harness(model: Any, tokenizer: Any, settings: HarnessSettings) -> dict[str, Measures]:
    """{task: 1 or 0 of each document}; a group of tasks gives all that it holds.

    Raises:
        ConfigError: the harness is not installed, does not know a task, cannot get its data, or
            measures no accuracy on it.
    """
    if not settings.tasks:
        return {}
    _version()
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    manager = _manager(settings)
    try:
        found = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH),
            tasks=list(settings.tasks),
            task_manager=manager,
            limit=settings.limit,
            bootstrap_iters=0,
            log_samples=True,
            # Whoever calls has seeds of their own.
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    # Data sets that cannot be had, and what is wrong with a task's YAML.
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"lm-eval cannot run {', '.join(settings.tasks)} ({type(error).__name__}: {said})",
            "check evaluate.harness, and that the data of these tasks can be reached",
        ) from error
    return {task: _accuracies(task, samples) for task, samples in found["samples"].items()}


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            "evaluate.harness.tasks needs lm-eval, which is not installed",
            "pip install 'evergreen-llm[lm-eval]', or unset it",
        ) from error


def _manager(settings: HarnessSettings) -> Any:
    from lm_eval.tasks import TaskManager

    own = settings.include_path
    if own is not None and not own.is_dir():
        raise ConfigError(f"there is no folder {own}", "correct evaluate.harness.include_path")
    manager = TaskManager(include_path=str(own) if own else None)
    if unknown := [name for name in settings.tasks if name not in manager.all_tasks]:
        raise ConfigError(
            f"lm-eval has no task {' and no task '.join(unknown)}",
            "`lm-eval ls tasks` lists them; your own are found in evaluate.harness.include_path",
        )
    return manager


def _accuracies(task: str, samples: list[dict[str, Any]]) -> Measures:
    """Of each document, as the task's first filter reads the answer."""
    metrics = samples[0]["metrics"]
    chosen = next((name for name in ACCURACIES if name in metrics), None)
    if chosen is None:
        raise ConfigError(
            f"the task {task} measures {', '.join(metrics)}, not whether an answer is right",
            f"take tasks that measure {' or '.join(ACCURACIES)}",
        )
    return tuple(
        Measure(id=f"{task}/{sample['doc_id']}", total=float(sample[chosen]))
        for sample in sorted(samples, key=lambda sample: int(sample["doc_id"]))
        if sample["filter"] == samples[0]["filter"]
    )
