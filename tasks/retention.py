"""Retention: text of production traffic is deleted when it is `watch.retention_days` old.

- With its window: its conversations (`snapshots/window-*`), features and report
  (`windows/MODEL/WINDOW/`).
- When it is this old: what a retrain took from windows, on its way to training
  (`snapshots/replay-*`; `snapshots/scrub-*`, `snapshots/validate-*` and `cache/scrub/` where they
  were made of that), and what drift is measured against (`windows/reference-*`).
- When it is this old: models' answers to held-out questions (`runs/*/samples.json`,
  `runs/*/verdict.html`, `cache/evaluations.db`, `prefect/storage/evaluate-*`) and reviewers' sheets
  (`reviews/`).

What a retrain has learnt from stays, `snapshots/train-*`, `holdout-*` and `planted-*`: the adapter
cannot unlearn it, and these snapshots are the only record of what that was. The next retrain
after drift learns from them again, and `evergreen models check` scores them.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.workspace import Workspace
from tasks.evaluate.cache import EVALUATIONS, forget_items
from tasks.evaluate.samples import SAMPLES
from tasks.ledger import episodes
from tasks.ledger.database import Ledger
from tasks.replay import slice_of

# Files and folders with text, below a home.
TEXTS = (
    "snapshots/replay-*",
    "windows/reference-*.parquet",
    f"runs/*/{SAMPLES}",
    "runs/*/verdict.html",
    "reviews/*/*.html",
    "reviews/*/*.csv",
    "prefect/storage/evaluate-*",
)
# Folders and files that hold what was replayed, if what they were made of says so.
MADE_OF_REPLAYED = ("snapshots/scrub-*", "snapshots/validate-*", "cache/scrub/*.parquet")


def delete_expired_windows(
    ledger: Ledger, workspace: Workspace, model: str, days: float
) -> list[str]:
    """Delete the model's windows that were judged this long ago, with their texts and reports; and
    what is as old of windows that were never judged, as their watch was killed.

    Returns:
        what could not be deleted and why; it stays in the ledger, and the next call tries again
    """
    problems = []
    for window in episodes.expired(ledger, model, days):
        folders = (Path(window.report).parent, Path(window.data.path))
        if failed := _delete(folder for folder in folders if folder.exists()):
            problems += failed
        else:
            episodes.forget(ledger, window)
    kept = episodes.every_window(ledger)
    names = {Path(place).name for one in kept for place in (one.data.path, Path(one.report).parent)}
    found = (*workspace.snapshots.glob("window-*"), *workspace.windows.glob("*/*"))
    oldest = _days_ago(days)
    return problems + _delete(
        path for path in found if path.name not in names and _is_older(path, oldest)
    )


def delete_expired_text(workspace: Workspace, days: float) -> list[str]:
    """Delete all other text of traffic that was written this long ago. Call it while no retrain
    runs, as it would miss what it is made of.

    Returns:
        what could not be deleted and why
    """
    oldest = _days_ago(days)
    problems = _delete(expired_paths(workspace.home, oldest))
    forget_items(workspace.cache / EVALUATIONS, oldest)
    return problems


def expired_paths(home: Path, oldest: float) -> Iterator[Path]:
    """Files and snapshots with text of traffic, last written before `oldest`."""
    for pattern in TEXTS:
        yield from (path for path in home.glob(pattern) if _is_older(path, oldest))
    for pattern in MADE_OF_REPLAYED:
        for path in home.glob(pattern):
            if _is_older(path, oldest) and is_replayed(path):
                yield path


def is_replayed(path: Path) -> bool:
    """Whether rows of a Parquet file, or of the first of a snapshot, come from a replay."""
    file = next(iter(sorted(path.glob("part-*.parquet"))), None) if path.is_dir() else path
    if file is None:
        return False
    try:
        sources = pq.read_table(file, columns=["source"])["source"].unique().to_pylist()
    except (OSError, pa.ArrowException, KeyError):
        return False  # damaged: whoever needs it makes it anew
    return any(slice_of(str(source)) is not None for source in sources)


def _delete(paths: Iterable[Path]) -> list[str]:
    """Delete files and folders; what could not be, and why."""
    problems = []
    for path in paths:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:
            continue  # somebody else was first
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return problems


def _days_ago(days: float) -> float:
    """Seconds since 1970."""
    return time.time() - 86_400 * days


def _is_older(path: Path, oldest: float) -> bool:
    try:
        return path.stat().st_mtime < oldest
    except FileNotFoundError:
        return False
