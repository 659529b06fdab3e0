"""Notify: write into the log what people should know, where they have set up nothing better."""

from typing import Any

from prefect import flow, get_run_logger


@flow(name="notify", description=__doc__, log_prints=False)
def notify(title: str, body: str = "") -> None:
    log: Any = get_run_logger()
    log.warning("%s: %s", title, body)
