"""What turns a stage's function into a Prefect task.

A stage is cached by content: the same code, input and settings give the stored
result back, in this flow run or any later one. A stored result whose files were
deleted or damaged since is passed over and made anew.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

from prefect.assets import Asset, materialize
from prefect.assets.core import AssetProperties
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.settings import PREFECT_HOME
from pydantic import BaseModel

from data_contracts.digests import Json, code_version, digest_json
from data_contracts.errors import EvergreenError
from data_contracts.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class Verifiable(Protocol):
    """A stage's result that can tell whether the files it refers to are still as it left them."""

    def verify(self) -> None:
        """Raise EvergreenError if they are not."""
        ...


@dataclass
class StageCache(CachePolicy):
    """Cache key: stage, digest of its code, digest of its inputs and settings."""

    stage: str = ""
    code: tuple[str, ...] = ()

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
                "code": code_version(*self.code),
                "inputs": {name: _input_digest(value) for name, value in inputs.items()},
            }
        )
        for attempt in itertools.count():
            key = f"{self.stage}-{content[:32]}-{attempt}"
            if not task_ctx.result_store.exists(key) or _is_sound(task_ctx, key):
                return key
        raise AssertionError("unreachable")


def _input_digest(value: Any) -> Json:
    # A workspace says where to write, not what.
    if isinstance(value, Workspace) or value is None:
        return None
    if isinstance(value, BaseModel):
        return digest_json(value.model_dump(mode="json"))
    return digest_json(value)


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
    name: str, *, produces: str, description: str, code: tuple[str, ...], retries: int = 0
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a stage's function.

    Args:
        name: the stage.
        produces: key of the asset it materialises, below `evergreen://`.
        description: one line about the asset.
        code: modules or packages whose source decides the result.
        retries: attempts after a failure, with exponential back-off and jitter.
            User errors are never retried.
    """
    asset = Asset(
        key=f"evergreen://{produces}",
        properties=AssetProperties(name=produces, description=description),
    )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return materialize(
            asset,
            by="evergreen",
            name=name,
            cache_policy=StageCache(stage=name, code=code),
            persist_result=True,
            result_serializer="json",
            retries=retries,
            retry_delay_seconds=[2, 8, 30][:retries] or None,
            retry_jitter_factor=0.5 if retries else None,
            retry_condition_fn=_worth_retrying,
        )(function)

    return decorate


def _worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    return not isinstance(state.result(raise_on_failure=False), EvergreenError)


class OneLineUserErrors(logging.Filter):
    """Drop the traceback of errors that the user can act on; their message says it all."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], EvergreenError):
            record.exc_info = None
        return True


for _logger in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_logger).addFilter(OneLineUserErrors())


def results_folder() -> str:
    """Where task results are kept: below PREFECT_HOME."""
    return str(PREFECT_HOME.value() / "storage")
