"""Log records of errors that a user can act on: one line each, from whatever library they come."""

import logging
from typing import Any

from data_contracts.disk import named_disk_error, says_disk
from data_contracts.errors import EvergreenError
from data_contracts.workspace import Workspace


def logging_in_one_line() -> None:
    """From here on such an error is logged without its traceback: its message says it all.

    What a disk makes fail MLflow, Prefect, SQLAlchemy and Great Expectations each log in pages of
    their own, some of them within the message.
    """
    plain = logging.getLogRecordFactory()
    if isinstance(plain, OneLine):
        return
    logging.setLogRecordFactory(OneLine(plain))


class OneLine:
    """A factory of log records around another."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.plain(*args, **kwargs)
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno < logging.WARNING:
            return record
        if isinstance(error, EvergreenError):
            record.exc_info = None
            return record
        home = Workspace.current().home
        problem = named_disk_error(error, home) if error else says_disk(record.getMessage(), home)
        if problem is not None:
            record.exc_info, record.msg, record.args = None, problem.problem, ()
        return record
