"""Logs that tracers of LLM applications export.

- **Langfuse**: observations as its API and its blob export write them (one row an observation),
  and traces with their observations and scores.
- **MLflow**: traces as `Trace.to_dict` and `mlflow.search_traces` give them.

A trace may hold several calls of a model. The last is read, because an application sends what was
said before with it; the others are counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_contracts.errors import RowRejected
from data_contracts.formats.fields import is_list
from data_contracts.lenient_json import parse_json
from data_contracts.log_formats.answers import ERROR, NO_ANSWER, read_answer, read_usage
from data_contracts.log_formats.exchange import Answer, Exchange, Request, Usage
from data_contracts.log_formats.fields import LogFields
from data_contracts.log_formats.questions import read_request
from data_contracts.timestamps import milliseconds_between

OTHER_CALLS = "calls of a model beside the one that is used"
NO_CALL = "trace: no call of a model"
# Names, in lower case without signs, that people give to what a user thought of an answer.
FEEDBACK = frozenset({"feedback", "userfeedback", "thumbs", "thumb", "rating", "userrating"})
CORRECTION = frozenset({"correction", "expectedresponse", "expectedanswer", "expectedoutput"})
CALLS = frozenset({"CHAT_MODEL", "LLM"})


def _count_others(calls: Sequence[Any], row: LogFields) -> None:
    if len(calls) > 1:
        row.notes.labels[OTHER_CALLS] += len(calls) - 1


def _list(value: Any) -> list[Any]:
    return list(value) if is_list(value) else []


def _plain(name: Any) -> str:
    return "".join(filter(str.isalnum, str(name))).casefold()


# -- Langfuse --------------------------------------------------------------------------------


def is_langfuse(row: Mapping[str, Any]) -> bool:
    if row.get("observations") is not None and row.get("timestamp") is not None:
        return True
    return (
        (row.get("traceId") is not None or row.get("trace_id") is not None)
        and (row.get("startTime") is not None or row.get("start_time") is not None)
        and ("input" in row or row.get("type") in ("GENERATION", "SPAN", "EVENT"))
    )


def read_langfuse(row: LogFields) -> Exchange:
    """Raises RowRejected: no generation, or a failed one."""
    if "observations" not in row:
        return _read_observation(row)
    found = row.take("observations")
    calls = [one for one in _list(found) if isinstance(one, Mapping) and _is_generation(one)]
    if not calls:
        raise RowRejected(NO_CALL)
    _count_others(calls, row)
    for name in ("input", "output", "latency"):  # of the whole trace
        row.take(name)
    last = max(calls, key=lambda call: str(call.get("startTime", call.get("start_time"))))
    return _read_observation(row.within(last, "observations"), row)


def _is_generation(observation: Mapping[str, Any]) -> bool:
    return observation.get("type") == "GENERATION" and observation.get("output") is not None


def _read_observation(call: LogFields, trace: LogFields | None = None) -> Exchange:
    if call.take("type") not in (None, "GENERATION"):
        raise RowRejected(NO_CALL)
    if call.take("level") == "ERROR" or "output" not in call:
        raise RowRejected(ERROR)
    request = read_request(call.take("input"), call, "input")
    answer = _read_output(call)
    settings = call.inner("modelParameters", "model_parameters")
    usage = call.inner("usageDetails", "usage_details", "usage")
    old_usage = Usage(call.take("promptTokens"), call.take("completionTokens"))
    start, end = call.take("startTime", "start_time"), call.take("endTime", "end_time")
    whole = trace or call
    scores = whole.take("scores")
    return Exchange(
        Request(request.messages, tools=request.tools or settings.take("tools")),
        answer,
        times=(start, whole.take("timestamp")),
        ids=(call.take("id"),),
        models=(call.take("model", "providedModelName", "provided_model_name"), answer.model),
        workload=whole.take("traceName", "trace_name", "name"),
        usage=read_usage(usage).or_else(old_usage).or_else(answer.usage),
        latency_ms=milliseconds_between(start, end),
        feedback=_named_value(scores, ("value", "stringValue", "string_value"), FEEDBACK),
        correction=_named_value(scores, ("stringValue", "string_value", "value"), CORRECTION),
    )


def _read_output(call: LogFields) -> Answer:
    """An application's output may be JSON that is the answer itself."""
    output = call.take("output")
    try:
        return read_answer(output, call, "output")
    except RowRejected as rejected:
        if rejected.rule in (NO_ANSWER, "output: not JSON") and isinstance(output, str):
            call.drop("output")
            return Answer({"role": "assistant", "content": output})
        raise


def _named_value(scores: Any, values: Iterable[str], names: frozenset[str]) -> Any:
    """The value of the last score or assessment of one of these names."""
    found = None
    for score in _list(scores):
        if isinstance(score, Mapping) and _plain(score.get("name")) in names:
            found = next((score[v] for v in values if score.get(v) is not None), found)
    return found


# -- MLflow ----------------------------------------------------------------------------------


def is_mlflow(row: Mapping[str, Any]) -> bool:
    info, data = row.get("info"), row.get("data")
    if isinstance(info, Mapping) and isinstance(data, Mapping):
        return data.get("spans") is not None
    return row.get("trace_id") is not None and (
        isinstance(row.get("spans"), list) or isinstance(row.get("trace"), str | Mapping)
    )


def read_mlflow(row: LogFields) -> Exchange:
    """Raises RowRejected: no call of a model, or a failed one."""
    whole = row.inner("trace") or row
    info = whole.inner("info") or whole
    data = whole.inner("data") or whole
    if info.take("state", "status") == "ERROR":
        raise RowRejected(ERROR)
    found = data.take("spans")
    spans = [_Span(span) for span in _list(found) if isinstance(span, Mapping)]
    call = _last_call(spans, row)
    request = read_request(call.inputs, row, "spans.inputs")
    answer = read_answer(call.outputs, row, "spans.outputs")
    found = call.attribute("mlflow.chat.tokenUsage")
    usage = found if isinstance(found, Mapping) else {}
    assessments = [_flat(one) for one in _list(info.take("assessments"))]
    tags = info.inner("tags")
    return Exchange(
        Request(
            request.messages,
            request.model,
            request.tools or call.attribute("mlflow.chat.tools"),
            request.parallel_tool_calls,
        ),
        answer,
        times=(call.start, info.take("request_time", "timestamp_ms", "timestamp")),
        ids=(info.take("trace_id", "request_id"), answer.id),
        models=(answer.model, call.attribute("mlflow.llm.model"), request.model),
        workload=tags.take("mlflow.traceName"),
        usage=read_usage(LogFields(usage, row.notes)).or_else(answer.usage),
        latency_ms=milliseconds_between(call.start, call.end),
        feedback=_named_value(assessments, ("feedback",), FEEDBACK),
        correction=_named_value(assessments, ("expectation",), CORRECTION),
    )


class _Span:
    """A span whose attributes are JSON text, or not."""

    def __init__(self, span: Mapping[str, Any]) -> None:
        found = span.get("attributes")
        self._attributes: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        self.start = span.get("start_time_unix_nano", span.get("start_time_ns"))
        self.end = span.get("end_time_unix_nano", span.get("end_time_ns"))
        self.kind = self.attribute("mlflow.spanType")
        self.inputs = self.attribute("mlflow.spanInputs", span.get("inputs"))
        self.outputs = self.attribute("mlflow.spanOutputs", span.get("outputs"))

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self._attributes.get(name)
        if isinstance(value, str):
            try:
                return parse_json(value)
            except (ValueError, RecursionError):
                return value
        return default if value is None else value


def _last_call(spans: Sequence[_Span], row: LogFields) -> _Span:
    """The last call of a model; where no span says that it is one, the only span."""
    calls = [span for span in spans if span.kind in CALLS]
    if not calls:
        calls = [span for span in spans if isinstance(span.inputs, Mapping)][:1]
    if not calls:
        raise RowRejected(NO_CALL)
    _count_others(calls, row)
    last = max(calls, key=lambda span: span.start if isinstance(span.start, int | float) else 0)
    if last.outputs is None:
        raise RowRejected(ERROR)
    return last


def _flat(assessment: Any) -> Any:
    """An assessment's name and values, wherever its version of MLflow has them."""
    if not isinstance(assessment, Mapping):
        return {}
    return {
        "name": assessment.get("assessment_name", assessment.get("name")),
        "feedback": _value(assessment.get("feedback")),
        "expectation": _value(assessment.get("expectation")),
    }


def _value(given: Any) -> Any:
    return given.get("value") if isinstance(given, Mapping) else given
