"""What a rank tells of an error that nobody expected, and whether trying again may help."""

import os
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

from data_contracts.disk import disk_error
from models.spec import LOG, Crashed, Failed

# Errors of a program that is wrong, or of data that is: the next attempt would meet them too.
LASTING = (
    *(TypeError, ValueError, LookupError, AttributeError, NameError, AssertionError),
    *(ImportError, NotImplementedError, ArithmeticError),
)
# Memory that ran out, or another rank that went away: not what the next attempt need meet.
INCIDENTAL = (
    *(torch.OutOfMemoryError, MemoryError, dist.DistError, ConnectionError, TimeoutError),
)


def describe_crash(error: Exception, output: Path) -> Failed | Crashed:
    """What a rank tells of an error that nobody expected."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{innermost.filename}:{innermost.lineno}"
    text = traceback.format_exception_only(error)[0].strip().splitlines()[0][:300]
    rank = int(os.environ.get("RANK", "0"))
    if isinstance(error, INCIDENTAL) or "gloo/" in str(error):
        return Crashed(rank=rank, error=text, place=place, incidental=True)
    if problem := disk_error(error, output):
        return Failed(reason=problem.problem, fix=problem.fix)
    if isinstance(error, LASTING):
        return Failed(
            reason=f"{text} (at {place})",
            fix=f"another attempt would end the same; {output / LOG} has the whole story",
        )
    return Crashed(rank=rank, error=text, place=place, incidental=False)
