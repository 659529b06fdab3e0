"""Keys of a home: one key whoever asks first, and nobody else can read it."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_contracts.errors import StackError
from data_contracts.home_keys import home_key, keyed_digest
from data_contracts.workspace import Workspace


def test_a_key_stays_and_is_for_its_owner_alone(workspace: Workspace) -> None:
    before = os.umask(0)
    try:
        key = home_key(workspace, "rows")
    finally:
        os.umask(before)
    assert len(key) == 32
    assert home_key(workspace, "rows") == key
    assert stat.S_IMODE((workspace.key_folder / "rows").stat().st_mode) == 0o600
    assert stat.S_IMODE(workspace.key_folder.stat().st_mode) == 0o700
    assert [file.name for file in workspace.key_folder.iterdir()] == ["rows"]


def test_names_and_homes_have_keys_of_their_own(workspace: Workspace) -> None:
    other = Workspace(home=workspace.home / "other")
    keys = {home_key(workspace, "rows"), home_key(workspace, "logs"), home_key(other, "rows")}
    assert len(keys) == 3
    assert len({keyed_digest(key, b"0171 2345678") for key in keys}) == 3


def test_all_who_ask_at_once_get_one_key(workspace: Workspace) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: home_key(workspace, "rows"), range(64)))
    assert len(keys) == 1


@pytest.mark.parametrize("content", ["", "abcd\n", "not hexadecimal\n"])
def test_a_damaged_key_is_told_and_not_replaced(workspace: Workspace, content: str) -> None:
    workspace.key_folder.mkdir()
    (workspace.key_folder / "rows").write_text(content)
    with pytest.raises(StackError, match="key"):
        home_key(workspace, "rows")
    assert (workspace.key_folder / "rows").read_text() == content
