"""The events that Evergreen emits; automations and people's own tools listen to them.

An event is a hint, never the truth: it may come twice, late or not at all. The ledger
knows what was asked for, and the reconciler starts what no event has.
"""

from uuid import NAMESPACE_URL, uuid5

from prefect.events import emit_event

from tasks.ledger.requests import Refusal, Request

TAG = "evergreen"  # of every flow run that people are told of
DRIFT = "evergreen.drift.detected"
REFUSED = "evergreen.retrain.refused"


def announce(request: Request) -> None:
    """Say that a retrain is wanted. A request is one event, however often it is sent."""
    _emit(
        DRIFT,
        request,
        {"request": request.id, "reason": request.reason, **request.evidence},
        request.id,
    )


def announce_refusal(refusal: Refusal) -> None:
    """Say that a retrain that was wanted does not start."""
    request = refusal.request
    payload = {"request": request.id, "reason": refusal.reason}
    _emit(REFUSED, request, payload, f"{request.id} {request.updated_at.isoformat()}")


def _emit(event: str, request: Request, payload: dict[str, str], identity: str) -> None:
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": f"evergreen.model.{request.model}",
            "prefect.resource.name": request.model,
        },
        payload=payload,
        id=uuid5(NAMESPACE_URL, f"{event}/{identity}"),
    )
