"""Formats of inference logs, told by the shape of a record.

A format recognises its records and reads one into an `Exchange`; `LogFields` counts what was not
read. What values must be is the business of `data_contracts.inference_logs`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data_contracts.log_formats.exchange import Exchange
from data_contracts.log_formats.fields import LogFields
from data_contracts.log_formats.gateways import (
    has_request_and_response,
    is_litellm,
    read_litellm,
    read_request_and_response,
)
from data_contracts.log_formats.opentelemetry import is_span, read_span
from data_contracts.log_formats.tracers import is_langfuse, is_mlflow, read_langfuse, read_mlflow

__all__ = ["FORMATS", "LogFormat", "find_format"]


@dataclass(frozen=True)
class LogFormat:
    """How records of one kind are recognised and read."""

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[LogFields], Exchange]


# The first that recognises a record reads it: the last takes what others have as well.
FORMATS = (
    LogFormat("OpenTelemetry span", is_span, read_span),
    LogFormat("LiteLLM payload", is_litellm, read_litellm),
    LogFormat("MLflow trace", is_mlflow, read_mlflow),
    LogFormat("Langfuse export", is_langfuse, read_langfuse),
    LogFormat("request and response", has_request_and_response, read_request_and_response),
)


def find_format(row: Mapping[str, Any]) -> LogFormat | None:
    """The format of a log record; None if it is none."""
    return next((form for form in FORMATS if form.recognises(row)), None)
