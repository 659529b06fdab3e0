"""Opening a home: before this Evergreen uses one, it is made, upgraded or moved as needed."""

import logging
from pathlib import Path

from filelock import FileLock, Timeout

from data_contracts.errors import StackError
from data_contracts.home_format import FORMAT, UNFINISHED, HomeFormat, is_unmarked
from data_contracts.permissions import tighten
from data_contracts.workspace import Workspace
from tasks.home import usage
from tasks.home.relocation import recorded_place, relocate

LOCK = ".opening.lock"
WAIT_SECONDS = 600.0

log = logging.getLogger("evergreen.home")


def open_home(workspace: Workspace) -> None:
    """Make the home ready for this Evergreen. Costs one small file to read where it is.

    A new home is made. One of an older format is migrated, after a copy of what that changes; one
    that was copied or moved is told where it is now. Of several processes that come at once, one
    does it and the others wait.

    Raises:
        StackError: a later Evergreen has used this home, something uses it now and it has to be
            changed first, or it cannot be changed; then it is as it was.
    """
    workspace.create()
    found = HomeFormat.read(workspace.home)
    is_cut_off = (workspace.home / UNFINISHED).exists()
    if found is not None and found.is_current(workspace.home) and not is_cut_off:
        return
    try:
        with FileLock(workspace.home / LOCK, timeout=WAIT_SECONDS):
            _bring_up_to_date(workspace)
    except Timeout as error:
        raise StackError(
            f"another process has been migrating {workspace.home} for {WAIT_SECONDS / 60:.0f}"
            " minutes",
            "wait until it has ended, or stop it: what it began is taken back",
        ) from error


def _bring_up_to_date(workspace: Workspace) -> None:
    from tasks.home import migration  # slow to import, seldom needed

    home = workspace.home
    migration.take_back(workspace)
    found = HomeFormat.read(home)
    if found is None and not is_unmarked(home):
        HomeFormat.current(home).write(home)
        return
    if found is not None and found.is_current(home):
        return
    _require_unused(workspace, found)
    if found is None or found.format < FORMAT or found.libraries != _libraries(home):
        copied = migration.migrate(workspace, found)
        log.warning(
            "%s was migrated from format %d to %d; what that changed was copied to %s first",
            home,
            found.format if found is not None else 1,
            FORMAT,
            copied,
        )
        return
    relocate(workspace, Path(found.place))
    tighten(home)
    HomeFormat.current(home).write(home)
    log.warning("%s was at %s before; what named that place names this one now", home, found.place)


def _libraries(home: Path) -> dict[str, str]:
    return HomeFormat.current(home).libraries


def _require_unused(workspace: Workspace, found: HomeFormat | None) -> None:
    """Raises StackError: something uses this very home, which is about to be changed.

    What a copy says of servers and runs is about the original, and does not count.
    """
    home = workspace.home
    if found is not None and found.place != str(home) and found.inode != home.stat().st_ino:
        return
    if found is None and recorded_place(workspace) not in (None, home):
        return
    if (user := usage.user_of(workspace)) is not None:
        what = "moved here" if found is not None and found.format == FORMAT else "migrated"
        raise StackError(f"{home} has to be {what}, and is used by {user}", "stop it first")
