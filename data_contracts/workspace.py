"""Where state is: everything Evergreen writes is below one folder, EVERGREEN_HOME."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

from data_contracts.errors import StackError
from data_contracts.home_format import HomeFormat, is_unmarked
from data_contracts.permissions import PRIVATE, keep_private

HOME_VARIABLE = "EVERGREEN_HOME"
# Starts a path that is stored relative to the home.
HOME = "evergreen-home:"


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
        """Secrets of this home, readable by its owner only.

        Not `keys`: Prefect takes what has a member of that name for a mapping.
        """
        return self.home / "keys"

    @property
    def data_docs(self) -> Path:
        return self.home / "data_docs"

    @property
    def cache(self) -> Path:
        """Compiled kernels and other things that may be deleted at any time."""
        return self.home / "cache"

    def create(self, *, free_bytes: int = 0) -> None:
        """Make the home folder, for its owner alone, and check that it can be written and has room.

        From then on whatever this process and its children write is readable by its owner only.
        An older home is not upgraded here; `tasks.home.opening.open_home` does both.

        Raises:
            StackError: it is another user's, a later Evergreen has used it, it cannot be written,
                or less than `free_bytes` are free.
        """
        keep_private()
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._require_owner()
            if (mode := self.home.stat().st_mode & 0o7777) & PRIVATE:
                self.home.chmod(mode & ~PRIVATE)
            if HomeFormat.read(self.home) is None and not is_unmarked(self.home):
                HomeFormat.current(self.home).write(self.home)
            probe = self.home / ".writable"
            probe.touch()
            probe.unlink(missing_ok=True)  # of two processes that try at once, one finds it gone
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

    def _require_owner(self) -> None:
        owner = self.home.stat().st_uid
        if owner != os.geteuid():
            raise StackError(
                f"EVERGREEN_HOME {self.home} belongs to user {owner}, and this is user"
                f" {os.geteuid()}",
                "run as its owner, or set EVERGREEN_HOME to a folder of your own (below a shared"
                " disk's mount point, say)",
            )


def stored(path: str) -> str:
    """How a path is written down: relative to the home if it is below it, as homes move."""
    home = str(Workspace.current().home)
    return HOME + path[len(home) + 1 :] if path.startswith(home + os.sep) else path


def located(path: str) -> str:
    """Where a path that was written down by `stored` is now."""
    if not path.startswith(HOME):
        return path
    inside = path.removeprefix(HOME)
    if inside.startswith("/") or ".." in Path(inside).parts:
        raise ValueError("a path relative to the home must stay in it")
    return str(Workspace.current().home / inside)


# A path that is absolute in memory and relative to the home wherever it is stored.
HomePath = Annotated[str, AfterValidator(located), PlainSerializer(stored)]
