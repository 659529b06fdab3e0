"""Many texts searched at once: in worker processes here, on a Dask cluster, or in this process.

Texts travel in batches. A batch that takes too long, or whose worker dies, is searched again text
by text: the one that did it is given up with a reason, and every other is searched.
"""

import multiprocessing
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cachetools import LRUCache
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import ConfigError, RowRejected
from data_contracts.findings import Finding
from data_contracts.policy import ScrubPolicy
from models.memory import keep_memory
from tasks.scrub.detector import BuiltDetector
from tasks.scrub.engine import broken, refuse_long
from tasks.scrub.names import require_installed

if TYPE_CHECKING:
    from tasks.scrub.finder import Finder

# Of one batch: enough to keep a worker busy for a good part of a second.
BATCH_CHARACTERS = 40_000
# Texts whose findings are remembered: people repeat themselves.
REMEMBERED = 100_000

# Makes a worker load what searches load lazily: telephone plans, the telling of languages.
WARM_UP = "Zażółć gęślą jaźń, Anna: anna@example.org, 030 901820, card 4111 1111 1111 1111"

# Findings, or the rule that the text broke.
Outcome: TypeAlias = list[Finding] | str


class WorkerSettings(BaseModel):
    """Where texts are searched for personal data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: Literal["processes", "dask"] = Field(
        default="processes", description="Worker processes on this machine, or a Dask cluster."
    )
    count: int | None = Field(
        default=None,
        ge=0,
        description="Worker processes here, default one a core; 0 searches in the process that"
        " asks, where a text cannot be given up when it takes too long.",
    )
    address: str | None = Field(
        default=None, description="The Dask scheduler, such as `tcp://scheduler:8786`."
    )


class Search:
    """Searches texts, each once while it is remembered.

    Args:
        policy: what is looked for.
        submit: starts the search of a batch; its result has an outcome a text.
    """

    def __init__(
        self, policy: ScrubPolicy, submit: "Callable[[list[str]], Future[list[Outcome]]]"
    ) -> None:
        self.policy = policy
        self.submit = submit
        self.known: LRUCache[str, Outcome] = LRUCache(REMEMBERED)
        self.running: dict[str, Job] = {}

    def ask(self, texts: Iterable[str]) -> "Asked":
        """Start searching the texts that are not known or being searched yet."""
        asked, new = Asked(self.policy), []
        for text in dict.fromkeys(texts):
            if len(text) > self.policy.max_message_characters:
                continue
            if (outcome := self.known.get(text)) is not None:
                asked.known[text] = outcome
            elif (job := self.running.get(text)) is not None:
                asked.jobs.append(job)
            else:
                new.append(text)
        for batch in batches(new):
            job = Job(self, batch)
            self.running |= dict.fromkeys(batch, job)
            asked.jobs.append(job)
        return asked


class Job:
    """One batch that is being searched."""

    def __init__(self, search: Search, batch: list[str]) -> None:
        self._search, self._batch = search, batch
        self._future = search.submit(batch)
        self._outcomes: dict[str, Outcome] | None = None

    def outcomes(self) -> dict[str, Outcome]:
        if self._outcomes is None:
            found = result(self._future)
            if isinstance(found, str):
                alone = [self._search.submit([text]) for text in self._batch]
                found = [
                    outcome if isinstance(outcome := result(future), str) else outcome[0]
                    for future in alone
                ]
            self._outcomes = dict(zip(self._batch, found, strict=True))
            self._search.known.update(self._outcomes)
            for text in self._batch:
                del self._search.running[text]
        return self._outcomes


class Asked:
    """The findings of a set of texts; call it with one of them."""

    def __init__(self, policy: ScrubPolicy) -> None:
        self._policy = policy
        self.known: dict[str, Outcome] = {}
        self.jobs: list[Job] = []

    def wait(self) -> None:
        for job in self.jobs:
            self.known |= job.outcomes()
        self.jobs = []

    def __call__(self, text: str) -> list[Finding]:
        """Raises RowRejected: the text could not be searched."""
        refuse_long(text, self._policy)
        outcome = self.known[text]
        if isinstance(outcome, str):
            raise RowRejected(outcome)
        return outcome


def result(future: "Future[list[Outcome]]") -> list[Outcome] | str:
    """A batch's outcomes, or why there are none."""
    from pebble import ProcessExpired

    try:
        return future.result()
    except TimeoutError:
        return "scrub: took too long"
    except ProcessExpired:
        return "scrub: its worker died"
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # Dask's, which need not be installed
            raise
        return "scrub: its worker died"


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in order, together at most BATCH_CHARACTERS, or one that is longer."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


@contextmanager
def searching(
    policy: ScrubPolicy, detector: BuiltDetector | None, settings: WorkerSettings
) -> Iterator[Search]:
    """Workers for as long as the block runs. From here on no crash writes a memory image.

    Raises:
        ConfigError: no Dask scheduler answers, Dask is not installed, or the policy names a
            spaCy model that is not installed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    asked_for = policy.model_dump_json(), Path(detector.path) if detector else None
    if settings.runner == "dask":
        with dask_client(settings) as client:
            yield Search(policy, lambda batch: client.submit(find, *asked_for, batch, pure=False))
    elif settings.count == 0:
        yield Search(policy, lambda batch: done(find(*asked_for, batch)))
    else:
        for model in policy.models.values():
            require_installed(model)  # said here, not by a worker that cannot start
        with process_pool(settings.count, asked_for) as pool:
            yield Search(
                policy,
                lambda batch: pool.schedule(
                    find, args=(*asked_for, batch), timeout=policy.max_seconds
                ),
            )


@contextmanager
def process_pool(count: int | None, asked_for: tuple[str, Path | None]) -> Iterator[Any]:
    import psutil
    from pebble import ProcessPool

    # Forked from a process that has imported what they need and started no thread: not from this
    # one, as threads of torch and of Prefect do not survive that.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.scrub.finder"])
    forkserver.ensure_running()  # it imports while rows are read
    pool = ProcessPool(
        max_workers=count or psutil.cpu_count() or 1,
        context=context,
        initializer=start,
        initargs=asked_for,
    )
    try:
        yield pool
    finally:
        pool.stop()
        pool.join()


@contextmanager
def dask_client(settings: WorkerSettings) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("Dask is not installed", "pip install 'evergreen-llm[dask]'") from error
    if settings.address is None:
        raise ConfigError(
            "scrub.workers.runner is dask, but there is no scheduler to ask",
            "set scrub.workers.address, for instance to tcp://scheduler:8786",
        )
    try:
        client = Client(settings.address, timeout=10, set_as_default=False)
    except OSError as error:
        raise ConfigError(
            f"no Dask scheduler answers at {settings.address}", "check scrub.workers.address"
        ) from error
    try:
        yield client
    finally:
        client.close()


# -- in a worker ---------------------------------------------------------------------


def start(policy: str, detector: Path | None) -> None:
    """Prepare a worker: one thread, as the processes share the cores, and everything loaded, as no
    time limit applies here."""
    import torch

    torch.set_num_threads(1)
    keep_memory()
    finder(policy, detector).find([WARM_UP])


@cache
def finder(policy: str, detector: Path | None) -> "Finder":
    from tasks.scrub.finder import Finder

    return Finder(ScrubPolicy.model_validate_json(policy), detector)


def find(policy: str, detector: Path | None, texts: list[str]) -> list[Outcome]:
    """The outcome of each text; if one breaks a recogniser, the others do not suffer."""
    search = finder(policy, detector).find
    try:
        return list(search(texts))
    except Exception as error:  # noqa: BLE001 - whatever a recogniser raises
        if len(texts) == 1:
            return [broken(error).rule]
        return [outcome for text in texts for outcome in find(policy, detector, [text])]


def done(outcomes: list[Outcome]) -> "Future[list[Outcome]]":
    future: Future[list[Outcome]] = Future()
    future.set_result(outcomes)
    return future
