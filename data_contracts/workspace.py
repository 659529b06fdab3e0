"""Where state is: everything Evergreen writes is below one folder, EVERGREEN_HOME."""

import os
import shutil
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import StackError

HOME_VARIABLE = "EVERGREEN_HOME"


class Workspace(BaseModel):
    """The folders below EVERGREEN_HOME. Deleting `home` resets everything."""

    model_config = ConfigDict(frozen=True)

    home: Path

    @classmethod
    def current(cls) -> Self:
        """The workspace of this process: EVERGREEN_HOME, by default `./.evergreen`."""
        home = Path(os.environ.get(HOME_VARIABLE) or ".evergreen")
        return cls(home=home.expanduser().resolve())

    @property
    def prefect(self) -> Path:
        return self.home / "prefect"

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def snapshots(self) -> Path:
        return self.home / "snapshots"

    @property
    def windows(self) -> Path:
        """What was compared of production traffic, and the reports."""
        return self.home / "windows"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def key_folder(self) -> Path:
        """Secrets of this home, readable by its owner only."""
        return self.home / "keys"

    @property
    def data_docs(self) -> Path:
        return self.home / "data_docs"

    @property
    def cache(self) -> Path:
        """Compiled kernels and other things that may be deleted at any time."""
        return self.home / "cache"

    def create(self, *, free_bytes: int = 0) -> None:
        """Make the home folder and check that it can be written and has room.

        Raises:
            StackError: it cannot be written, or less than `free_bytes` are free.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            probe = self.home / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StackError(
                f"EVERGREEN_HOME {self.home} cannot be written ({error.strerror})",
                "set EVERGREEN_HOME to a folder you own",
            ) from error
        free = shutil.disk_usage(self.home).free
        if free < free_bytes:
            raise StackError(
                f"{free / 1e9:.1f} GB free at {self.home}, {free_bytes / 1e9:.1f} GB needed",
                "free some disk space or set EVERGREEN_HOME to another disk",
            )
