"""Train: the training stage of a retrain, as a flow of its own for another work pool."""

from prefect import flow, task

from models.spec import FinetuneSpec
from tasks.progress import StageProgress
from tasks.stage import naming_disks
from tasks.train import TrainSettings, following, run_job


@flow(name="train", description=__doc__, log_prints=False, validate_parameters=True)
@naming_disks
def train(spec: FinetuneSpec, settings: TrainSettings) -> None:
    """Run one job. Its results are files below EVERGREEN_HOME, which the asker shares.

    Args:
        spec: what a retrain wants trained.
        settings: what it is to run on.

    Raises:
        TrainingError: it failed.
    """
    job(spec, settings)


@task(name="train", persist_result=False)
def job(spec: FinetuneSpec, settings: TrainSettings) -> None:
    run_job(spec, settings, following(StageProgress("train", "steps"), {}, {}))
