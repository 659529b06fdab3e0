"""What turns a stage's function into a Prefect task.

A stage is cached by content: the same code, input and settings give the stored
result back, in this flow run or any later one. A stored result whose files were
deleted or damaged since is passed over and made anew.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

from prefect.assets import Asset, AssetProperties, materialize
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.context import TaskRunContext
from prefect.tasks import MaterializingTask
from pydantic import BaseModel

from data_contracts.code_version import code_version
from data_contracts.digests import Json, digest_json
from data_contracts.disk import disk_errors
from data_contracts.errors import EvergreenError
from data_contracts.workspace import Workspace
from tasks.log_records import logging_in_one_line
from tasks.secrets import WITHOUT_SECRETS

RETRY_SECONDS = [2.0, 8.0, 30.0]

P = ParamSpec("P")
R = TypeVar("R")


_cache_hits: ContextVar[dict[str, bool]] = ContextVar("cache_hits")


@contextmanager
def cache_hits() -> Iterator[dict[str, bool]]:
    """Collect {stage: its result came from the cache} of the stages run in this block."""
    hits: dict[str, bool] = {}
    token = _cache_hits.set(hits)
    try:
        yield hits
    finally:
        _cache_hits.reset(token)


@runtime_checkable
class Verifiable(Protocol):
    """A stage's result that can tell whether the files it refers to are still as it left them."""

    def verify(self) -> None:
        """Raise EvergreenError if they are not."""
        ...


@dataclass
class StageCache(CachePolicy):
    """Cache key: stage, digest of the code it can reach, digest of its inputs and settings."""

    stage: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002 - part of Prefect's interface
        **_: Any,
    ) -> str | None:
        content = digest_json(
            {
                "stage": self.stage,
                "code": code_version(task_ctx.task.fn),
                "inputs": {name: _input_digest(value) for name, value in inputs.items()},
            }
        )
        for attempt in itertools.count():
            key = f"{self.stage}-{content[:32]}-{attempt}"
            stored = task_ctx.result_store.exists(key)
            if not stored or _is_sound(task_ctx, key):
                _cache_hits.get({}).setdefault(task_ctx.task_run.name, stored)
                return key
        raise AssertionError("unreachable")


def _input_digest(value: Any) -> Json:
    # A workspace says where to write, not what.
    if isinstance(value, Workspace) or value is None:
        return None
    if isinstance(value, BaseModel):
        return digest_json(_without_places(value.model_dump(mode="json", context=WITHOUT_SECRETS)))
    if isinstance(value, tuple):
        return [_input_digest(part) for part in value]
    return digest_json(value)


def _without_places(value: Any) -> Any:
    """What has a digest is identified by it, wherever it lies: drop its path."""
    if isinstance(value, dict):
        return {
            key: _without_places(part)
            for key, part in value.items()
            if not (key == "path" and "digest" in value)
        }
    return [_without_places(part) for part in value] if isinstance(value, list) else value


def _is_sound(task_ctx: TaskRunContext, key: str) -> bool:
    try:
        result = task_ctx.result_store.read(key).result
    except Exception:  # noqa: BLE001 - whatever is wrong with a stored result, it is made anew
        return False
    if isinstance(result, Verifiable):
        try:
            result.verify()
        except EvergreenError:
            return False
    return True


def stage_task(
    name: str,
    *,
    produces: str,
    description: str,
    cached: bool = True,
    retries: int = 0,
) -> Callable[[Callable[P, R]], MaterializingTask[P, R]]:
    """Decorate a stage's function.

    Args:
        name: the stage.
        produces: key of the asset it materialises, below `evergreen://`.
        description: one line about the asset.
        cached: whether a stored result is used while code, input and settings are the same.
        retries: attempts after a failure, with growing delay and jitter; errors that
            trying again cannot mend are not retried.
    """
    asset = Asset(
        key=f"evergreen://{produces}",
        properties=AssetProperties(name=produces, description=description),
    )

    def decorate(function: Callable[P, R]) -> MaterializingTask[P, R]:
        return materialize(
            asset,
            by="evergreen",
            name=name,
            task_run_name=name,
            cache_policy=StageCache(stage=name) if cached else NO_CACHE,
            persist_result=cached,
            result_serializer="json",
            retries=retries,
            retry_delay_seconds=RETRY_SECONDS[:retries] or None,
            retry_jitter_factor=0.5 if retries else None,
            retry_condition_fn=_worth_retrying,
        )(naming_disks(function))

    return decorate


def naming_disks(function: Callable[P, R]) -> Callable[P, R]:
    """The function of a stage or flow, that raises DiskError for whatever a disk makes fail."""

    @wraps(function)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        with disk_errors(Workspace.current().home):
            return function(*args, **kwargs)

    return named


def _worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return error.transient if isinstance(error, EvergreenError) else True


logging_in_one_line()
