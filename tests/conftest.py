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
os.environ["EVERGREEN_HOME"] = str(Path(_SCRATCH.name) / "home")
os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(_SCRATCH.name) / "torch_extensions")
os.environ.pop("PREFECT_API_URL", None)

from data_contracts.workspace import Workspace
from infra.local import PrefectApi, environment

WORKSPACE = Workspace.current()
WORKSPACE.create()
os.environ.update(environment(WORKSPACE))
API = PrefectApi(WORKSPACE)

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


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    fresh = Workspace(home=tmp_path / "home")
    fresh.create()
    return fresh
