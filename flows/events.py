"""The events that Evergreen emits; automations and people's own tools listen to them.

An event is a hint, never the truth: it may come twice, late or not at all. The ledger
knows what was asked for, and the reconciler starts what no event has.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from flows.settings import Settings
from tasks.ledger.promotions import Change
from tasks.ledger.requests import Refusal, Request
from tasks.notify import post
from tasks.promote import Promotion

TAG = "evergreen"  # of every flow run that people are told of
DRIFT = "evergreen.drift.detected"
REFUSED = "evergreen.retrain.refused"
APPROVAL = "evergreen.approval.wanted"
PROMOTED = "evergreen.model.promoted"
ROLLED_BACK = "evergreen.model.rolled-back"
CHANGES: dict[Change, str] = {"promote": PROMOTED, "rollback": ROLLED_BACK}


def announce(request: Request) -> None:
    """Say that a retrain is wanted. A request is one event, however often it is sent."""
    _emit(
        DRIFT,
        request.model,
        {"request": request.id, "reason": request.reason, **request.evidence},
        request.id,
    )


def announce_refusal(refusal: Refusal) -> None:
    """Say that a retrain that was wanted does not start."""
    request = refusal.request
    payload = {"request": request.id, "reason": refusal.reason}
    _emit(REFUSED, request.model, payload, f"{request.id} {request.updated_at.isoformat()}")


def announce_wait(model: str, flow_run_id: str, reason: str) -> None:
    """Say that a flow run waits for a person to approve a promotion."""
    payload = {"flow_run_id": flow_run_id, "reason": reason}
    # A run that is tried again asks again.
    _emit(APPROVAL, model, payload, f"{flow_run_id} {datetime.now(UTC).isoformat()}")


def tell(settings: Settings, promotion: Promotion, action: Change, reason: str) -> None:
    """Tell whoever serves the model that another version is champion: by event and webhook."""
    announce_promotion(promotion, action, reason)
    if settings.promote.webhook is not None:
        payload = {"event": CHANGES[action], **_changed(promotion, reason)}
        post(settings.promote.webhook.reveal("promote.webhook"), payload)


def announce_promotion(promotion: Promotion, action: Change, reason: str) -> None:
    """Say that another version is champion; without a Prefect server there is nobody to hear it."""
    if PREFECT_API_URL.value() is not None:
        payload = _changed(promotion, reason)
        _emit(CHANGES[action], promotion.model, payload, f"{promotion.version} {payload['at']}")


def _changed(promotion: Promotion, reason: str) -> dict[str, str | None]:
    return {
        "model": promotion.model,
        "version": promotion.version,
        "previous": promotion.previous,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(),
    }


def _emit(event: str, model: str, payload: Mapping[str, str | None], identity: str) -> None:
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": f"evergreen.model.{model}",
            "prefect.resource.name": model,
        },
        payload=dict(payload),
        id=uuid5(NAMESPACE_URL, f"{event}/{identity}"),
    )
