"""Samples: what models answered to held-out questions, kept in the home and nowhere else.

MLflow and Prefect keep what they are given for ever, or until somebody remembers to delete it. So
the texts of an evaluation stay in a file of the home, which `tasks.retention` deletes in its time.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.errors import RegistryError
from data_contracts.workspace import Workspace
from tasks.evaluate.measures import Evaluation, ModelScore, Sample

SAMPLES = "samples.json"


class Samples(BaseModel):
    """{role: samples} of one evaluation."""

    model_config = ConfigDict(frozen=True)

    by_role: dict[str, tuple[Sample, ...]]


def without_samples(evaluation: Evaluation) -> Evaluation:
    """The numbers alone."""
    bare = {role: _with(score, ()) for role, score in evaluation.scores.items()}
    return evaluation.model_copy(update=bare)


def save_samples(evaluation: Evaluation, run_id: str, workspace: Workspace) -> None:
    """Write the texts down, beside what else the home keeps of the MLflow run."""
    folder = workspace.runs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    kept = Samples(by_role={role: score.samples for role, score in evaluation.scores.items()})
    (folder / SAMPLES).write_text(kept.model_dump_json(), encoding="utf-8")


def with_samples(evaluation: Evaluation, run_id: str, workspace: Workspace) -> Evaluation:
    """The evaluation of an MLflow run with its texts.

    Raises:
        RegistryError: they are not in this home.
    """
    if any(score.samples for score in evaluation.scores.values()):
        return evaluation  # an earlier Evergreen gave them to MLflow
    file = workspace.runs / run_id / SAMPLES
    try:
        kept = Samples.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise RegistryError(
            f"the answers of MLflow run {run_id} are not in {workspace.home}",
            "use the home that made them; they are deleted after watch.retention_days, and"
            " retraining makes them anew",
        ) from error
    scores = evaluation.scores
    found = {role: _with(scores[role], kept.by_role.get(role, ())) for role in scores}
    return evaluation.model_copy(update=found)


def _with(score: ModelScore, samples: tuple[Sample, ...]) -> ModelScore:
    return score.model_copy(update={"samples": samples})
