"""Real parts for the tests: one Prefect server, one EVERGREEN_HOME, a tiny model.

The environment is set before anything imports Prefect, as the command line does it.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Two busy cores say nothing about whether the code is right.
hypothesis.settings.register_profile(
    "shared-machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    database=None,
)
hypothesis.settings.load_profile("shared-machine")

_SCRATCH = tempfile.TemporaryDirectory(prefix="evergreen-tests-")
# Where pytest has several workers, each has a home and servers of its own; what is compiled and
# built is in the first process's folder.
_SHARED = Path(os.environ.setdefault("SCRATCH_OF_TESTS", _SCRATCH.name))
# Threads that wait for one another give the core away: else those of two workers' trainings, more
# than there are cores, spin most of the time.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["EVERGREEN_HOME"] = str(Path(_SCRATCH.name) / "home")
os.environ["TORCH_EXTENSIONS_DIR"] = str(_SHARED / "torch_extensions")
os.environ.pop("PREFECT_API_URL", None)
# A detector that learnt little, built once; what it should find is measured in bench.pii.
os.environ["EVERGREEN_SCRUB__DETECTOR__FOLDER"] = str(_SHARED / "detector")
os.environ["EVERGREEN_SCRUB__DETECTOR__TEXTS"] = "2500"
os.environ["EVERGREEN_SCRUB__AUDIT__RECORDS"] = "30"
os.environ["EVERGREEN_SCRUB__AUDIT__MAX_LEAK_RATE"] = "1"
os.environ["EVERGREEN_SCRUB__AUDIT__MAX_CHANGED"] = "1"
os.environ["EVERGREEN_SCRUB__WORKERS__COUNT"] = "0"

from data_contracts.policy import load_policy
from data_contracts.workspace import Workspace
from infra.local import PrefectApi, environment

WORKSPACE = Workspace.current()
WORKSPACE.create()
os.environ.update(environment(WORKSPACE))
API = PrefectApi(WORKSPACE)

from tasks.scrub.detector import BuiltDetector, DetectorSettings, built
from tests.tiny import make_tiny_model


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """A real Prefect server; its address is in PREFECT_API_URL for child processes too."""
    with API.running():
        yield API.url


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with a tokenizer and chat template of its own, as a model folder."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def detector() -> BuiltDetector:
    """The one of the settings above."""
    folder = Path(os.environ["EVERGREEN_SCRUB__DETECTOR__FOLDER"])
    texts = int(os.environ["EVERGREEN_SCRUB__DETECTOR__TEXTS"])
    made = built(load_policy(), DetectorSettings(folder=folder, texts=texts), WORKSPACE)
    assert made is not None
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    fresh = Workspace(home=tmp_path / "home")
    fresh.create()
    return fresh
