"""What a retrain keeps with its MLflow run beside the adapter, read back."""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import RegistryError
from tasks.decide import Verdict
from tasks.evaluate import Evaluation
from tasks.lineage import Lineage
from tasks.registry import Version

LINEAGE = "lineage.json"
VERDICT = "verdict.json"
EVALUATION = "evaluation.json"
REVIEW = "review.json"
CARD = "model_card/README.md"

M = TypeVar("M", bound=BaseModel)


class Documents(BaseModel):
    """Documents of a version, as they were written; None where there is none."""

    model_config = ConfigDict(frozen=True)

    version: Version
    texts: dict[str, str]

    @property
    def lineage(self) -> Lineage:
        """Raises RegistryError: there is none, or it cannot be read."""
        return self.parsed(LINEAGE, Lineage)

    @property
    def verdict(self) -> Verdict:
        """Raises RegistryError: there is none, or it cannot be read."""
        return self.parsed(VERDICT, Verdict)

    @property
    def evaluation(self) -> Evaluation:
        """Raises RegistryError: there is none, or it cannot be read."""
        return self.parsed(EVALUATION, Evaluation)

    def parsed(self, file: str, kind: type[M]) -> M:
        """Raises RegistryError: there is no such file, or it cannot be read."""
        name = f"version {self.version.version} of {self.version.name!r}"
        if file not in self.texts:
            raise RegistryError(
                f"{name} was registered before Evergreen kept {file}", "retrain to have one"
            )
        try:
            return kind.model_validate_json(self.texts[file])
        except ValueError as error:
            raise RegistryError(
                f"the {file} of {name} cannot be read", "look at the artifacts of its MLflow run"
            ) from error


def documents(client: Any, version: Version) -> Documents:
    """Read what there is.

    Raises:
        RegistryError: MLflow's artifacts cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Documents(version=version, texts=dict(_read(client, version.run_id)))
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"the artifacts of MLflow run {version.run_id} cannot be read ({type(error).__name__})",
            "restore MLflow's artifact folder, or retrain",
        ) from error


def _read(client: Any, run_id: str) -> Iterator[tuple[str, str]]:
    import mlflow

    there = {
        file.path
        for folder in (None, "model_card")
        for file in client.list_artifacts(run_id, folder)
    }
    for name in (LINEAGE, VERDICT, EVALUATION, REVIEW, CARD):
        if name in there:
            yield name, mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")
