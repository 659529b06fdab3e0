"""How far a stage is: a line in the log now and then, a bar in the Prefect UI."""

import time
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

LOG_SECONDS = 5.0


class StageProgress:
    """Call with (done, total) as often as you like; it shows at most one step each few seconds.

    Use inside a Prefect task: it logs to the run and keeps a progress artifact.
    """

    def __init__(self, stage: str, unit: str) -> None:
        self.stage = stage
        self.unit = unit
        self._log: Any = get_run_logger()
        # Prefect's functions serve sync and async callers; stages are sync.
        self._artifact = cast(
            UUID,
            create_progress_artifact(
                0.0, key=f"{stage}-progress", description=f"{stage}: starting"
            ),
        )
        self._first: tuple[float, int] | None = None
        self._shown = 0.0
        self._percent = 0.0

    def __call__(
        self, done: int, total: int, detail: str = "", seconds_left: float | None = None
    ) -> None:
        now = time.monotonic()
        # Loading models is over at the first call; a later part of the stage counts anew.
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
        if done < total and now - self._shown < LOG_SECONDS:
            return
        self._shown = now
        if seconds_left is None:
            since, before = self._first
            seconds_left = (now - since) / max(1, done - before) * (total - done)
        eta = f"about {seconds_left:.0f} s left" if 0 < done < total and seconds_left else ""
        parts = [f"{done}/{total} {self.unit}", detail, eta]
        self._percent = 100 * done / max(1, total)
        self._show(", ".join(part for part in parts if part))

    def say(self, text: str) -> None:
        """Show what goes on where there is nothing to count."""
        self._show(text)

    def _show(self, text: str) -> None:
        self._log.info("%s: %s", self.stage, text)
        update_progress_artifact(self._artifact, self._percent, description=f"{self.stage}: {text}")
