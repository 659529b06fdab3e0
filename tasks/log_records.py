"""Log records, from whatever library they come: without what steers terminals, and in one line
each where they are of errors that a user can act on."""

import logging
from typing import Any

from data_contracts.disk import named_disk_error, says_disk
from data_contracts.errors import EvergreenError
from data_contracts.printable import printable
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
        return printed(self._in_one_line(self.plain(*args, **kwargs)))

    def _in_one_line(self, record: logging.LogRecord) -> logging.LogRecord:
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


def printed(record: logging.LogRecord) -> logging.LogRecord:
    """The record without what would steer a terminal that shows it, as the name of a file may."""
    try:
        said = record.getMessage()
    except (TypeError, ValueError):  # its format is wrong, which the handler says
        return record
    if (plain := printable(said)) != said:
        record.msg, record.args = plain, ()
    if record.exc_info and not record.exc_text:  # formatters take what is there
        record.exc_text = printable(logging.Formatter().formatException(record.exc_info))
    return record
