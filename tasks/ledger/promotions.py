"""Promotions: who became champion when, by whom and why, and the one way to make a champion.

A promotion or a rollback is two transactions under the model's lock. The first settles what
an earlier crash left, checks that the champion is still the one that was looked at, and
writes down what is intended. The second moves the aliases, `previous` first, and marks it
done. After a crash between the two, whoever comes next finishes it.

| state | means | goes on to |
|---|---|---|
| intended | the aliases have moved, or some of them, or none yet | done, void |
| done | the aliases were moved | |
| void | it could not be carried out; the reason says why | |
"""

from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, select, update

from data_contracts.errors import RegistryError
from tasks import registry
from tasks.ledger.database import Ledger, now, promotions
from tasks.ledger.requests import NO_CHAMPION

Change: TypeAlias = Literal["promote", "rollback"]
Action: TypeAlias = Literal["promote", "rollback", "outside"]
State: TypeAlias = Literal["intended", "done", "void"]

CHANGED: dict[Change, tuple[str, str]] = {
    "promote": (
        "while this challenger was judged",
        "run the retrain again; it will be judged against the new one",
    ),
    "rollback": (
        "while the version to go back to was tried",
        "see `evergreen models history`, and roll back again if that is still wanted",
    ),
}


class PromotionEntry(BaseModel):
    """One line of the history.

    `before` was champion until then. `outside` is what somebody did in the registry itself;
    its `version` is NO_CHAMPION where they took the alias away.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    model: str
    at: datetime
    action: Action
    version: str
    before: str | None
    state: State
    by: str
    reason: str


def history(ledger: Ledger, model: str) -> list[PromotionEntry]:
    """All promotions and rollbacks of a model, the newest first."""
    with ledger.transaction(model) as connection:
        return _entries(connection, model)


def taken_back(ledger: Ledger, model: str) -> set[str]:
    """Versions that a rollback took down and nobody made champion again since."""
    taken: set[str] = set()
    for entry in reversed(history(ledger, model)):
        if entry.state != "done":
            continue
        taken.discard(entry.version)
        if entry.action == "rollback" and entry.before is not None:
            taken.add(entry.before)
    return taken


def settle(client: Any, ledger: Ledger, model: str) -> list[PromotionEntry]:
    """Make history and aliases agree again, after a crash or a change made elsewhere.

    What was intended is carried out, or void if that is no longer possible. A champion that
    the history does not know was made outside, and is written down as such.

    Args:
        client: an MlflowClient.
        ledger: the ledger.
        model: the registered model.

    Returns:
        what it changed or added; nothing if all was settled
    """
    with ledger.transaction(model) as connection:
        return _settle(connection, client, model)


def make_champion(
    client: Any,
    ledger: Ledger,
    model: str,
    version: str,
    *,
    action: Change,
    judged_against: str | None,
    by: str,
    reason: str,
) -> bool:
    """Make a version champion, and the champion `previous`; False if it is champion already.

    Args:
        client: an MlflowClient.
        ledger: the ledger.
        model: the registered model.
        version: a version of it that the caller has loaded.
        action: what this is called in the history.
        judged_against: the version that was champion when the decision was made.
        by: the flow run or person that does it.
        reason: why, for the history.

    Raises:
        RegistryError: another version is champion by now.
    """
    with ledger.transaction(model) as connection:
        _settle(connection, client, model)
        before = _champion(connection, model)
        intended = (
            _write(connection, model, action, version, before, "intended", by, reason)
            if before == judged_against != version
            else None
        )
    if before == version:
        return False
    if intended is None:
        when, fix = CHANGED[action]
        raise RegistryError(f"the champion of {model!r} changed {when}", fix)
    with ledger.transaction(model) as connection:
        entry = _get(connection, intended.id)
        if entry.state == "intended":  # else another process has settled it
            entry = _carry_out(connection, client, entry, is_loaded=True)
    if entry.state == "void":
        raise RegistryError(
            f"version {version} of {model!r} is not champion ({entry.reason})",
            "see `evergreen models history`; retrain, or choose another version",
        )
    return True


def _settle(connection: Connection, client: Any, model: str) -> list[PromotionEntry]:
    settled = [
        _carry_out(connection, client, entry, is_loaded=False)
        for entry in reversed(_entries(connection, model))
        if entry.state == "intended"
    ]
    known, found = _champion(connection, model), registry.champion(client, model)
    champion = found.version if found is not None else None
    if champion != known:
        why = "changed in the registry" if _last(connection, model) else "older than this history"
        version = champion or NO_CHAMPION
        settled.append(
            _write(connection, model, "outside", version, known, "done", "somebody else", why)
        )
    return settled


def _carry_out(
    connection: Connection, client: Any, entry: PromotionEntry, *, is_loaded: bool
) -> PromotionEntry:
    """Move the aliases as intended, wherever a crash left them.

    Void if the version cannot be used: what had moved is put back; or if somebody chose
    another champion since: that stays.
    """
    model = entry.model
    known = registry.versions(client, model)
    aliases = {alias: one.version for one in known for alias in one.aliases}
    champion = aliases.get("champion")
    if champion not in (entry.before, entry.version):
        return _void(connection, entry, f"the champion was changed to {champion} in the registry")
    try:
        version = registry.find(client, model, entry.version)
        if not is_loaded:
            registry.load(version)
    except RegistryError as error:
        last = _last(connection, model)
        if champion == entry.version:
            _point(client, model, "champion", entry.before, known)
        if aliases.get("previous") == entry.before is not None:
            _point(client, model, "previous", last.before if last else None, known)
        return _void(connection, entry, error.problem)
    if entry.before is not None:
        _point(client, model, "previous", entry.before, known)
    _point(client, model, "champion", entry.version, known)
    if aliases.get("challenger") == entry.version:
        client.delete_registered_model_alias(model, "challenger")
    return _change(connection, entry, "done", entry.reason)


def _point(
    client: Any,
    model: str,
    alias: registry.Alias,
    version: str | None,
    known: list[registry.Version],
) -> None:
    """Give the alias to a version, or to none if that is not there."""
    if version in {one.version for one in known}:
        client.set_registered_model_alias(model, alias, version)
    else:
        client.delete_registered_model_alias(model, alias)


def _void(connection: Connection, entry: PromotionEntry, why: str) -> PromotionEntry:
    return _change(connection, entry, "void", f"{entry.reason}; void: {why}")


def _champion(connection: Connection, model: str) -> str | None:
    """Who is champion by the history; so it is in the registry once that is settled."""
    last = _last(connection, model)
    return None if last is None or last.version == NO_CHAMPION else last.version


def _write(
    connection: Connection,
    model: str,
    action: Action,
    version: str,
    before: str | None,
    state: State,
    by: str,
    reason: str,
) -> PromotionEntry:
    written = connection.execute(
        insert(promotions)
        .values(
            model=model,
            at=now(),
            action=action,
            version=version,
            before=before,
            state=state,
            by=by,
            reason=reason,
        )
        .returning(promotions.c.id)
    )
    return _get(connection, written.scalar_one())


def _change(
    connection: Connection, entry: PromotionEntry, state: State, reason: str
) -> PromotionEntry:
    connection.execute(
        update(promotions).where(promotions.c.id == entry.id).values(state=state, reason=reason)
    )
    return _get(connection, entry.id)


def _get(connection: Connection, identifier: int) -> PromotionEntry:
    row = connection.execute(select(promotions).where(promotions.c.id == identifier)).one()
    return PromotionEntry.model_validate(row)


def _last(connection: Connection, model: str) -> PromotionEntry | None:
    """The last that was carried out."""
    return next((entry for entry in _entries(connection, model) if entry.state == "done"), None)


def _entries(connection: Connection, model: str) -> list[PromotionEntry]:
    rows = connection.execute(
        select(promotions).where(promotions.c.model == model).order_by(promotions.c.id.desc())
    )
    return [PromotionEntry.model_validate(row) for row in rows]
