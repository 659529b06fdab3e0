"""Automations: what the Prefect server does by itself when something happens.

| automation | when | does |
|---|---|---|
| retrain on drift | `evergreen.drift.detected` | runs the deployment `retrain` for the request |
| drift | `evergreen.drift.detected` | tells people |
| retrain refused | `evergreen.retrain.refused`: over budget, drift over | tells people |
| roll back on NAME | NAME, an event of `promote.rollback_on` | runs the deployment `rollback` |
| promotion, rollback | `evergreen.model.promoted`, `evergreen.model.rolled-back` | tells people |
| approval | `evergreen.approval.wanted`: a promotion waits for a person | tells people |
| run failed | a flow run of ours failed, crashed or timed out | tells people |
| action failed | an automation could not do what it should | tells people |
| silence | no `reconcile` has completed for three of its intervals | tells people |

The last is only there where the server itself tells people: a flow that nobody runs tells nobody.
A run whose process is gone is marked crashed by `reconcile`, which makes it a failed one.

Registering them again changes them in place; there are never two of a name.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import (
    ActionTypes,
    CallWebhook,
    RunDeployment,
    SendNotification,
)
from prefect.events.schemas.automations import EventTrigger, Posture
from pydantic import SecretStr

from data_contracts.errors import ConfigError
from flows.events import APPROVAL, DRIFT, PROMOTED, REFUSED, ROLLED_BACK, TAG
from tasks.notify import NotifySettings

SILENCE = "evergreen: tell of silence"
ROLL_BACK = "evergreen: roll back on "
# An alarm that goes on does not roll back again within this time.
ROLL_BACK_QUIET = timedelta(minutes=30)
CHANGE = (
    "{{ event.resource.name }}: version {{ event.payload.version }} is champion, was"
    " {{ event.payload.previous or 'none' }}: {{ event.payload.reason }}"
)
# The same alarm is not repeated within this time.
QUIET = timedelta(seconds=30)
WEBHOOK_BLOCK = "evergreen-notify"


def register(
    deployments: Mapping[str, UUID],
    settings: NotifySettings,
    reconcile_every: timedelta,
    rollback_on: Collection[str] = (),
) -> list[str]:
    """Make or change all automations.

    Args:
        deployments: ids of the deployments `retrain`, `reconcile`, `rollback` and `notify`, by
            name.
        settings: how people are told.
        reconcile_every: the interval of the schedule of `reconcile`.
        rollback_on: names of events that roll back.

    Returns:
        names of the automations

    Raises:
        ConfigError: `notify.block` names no block on this server.
    """
    ours = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}

    def tell(title: str, body: str) -> ActionTypes:
        return notification(title, body, deployments["notify"], settings)

    wanted = [
        Automation(
            name="evergreen: retrain on drift",
            trigger=_on({DRIFT}, within=timedelta(0)),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=deployments["retrain"],
                    parameters={"request": _jinja("{{ event.payload.request }}")},
                )
            ],
        ),
        Automation(
            name="evergreen: tell of drift",
            trigger=_on({DRIFT}),
            actions=[tell("Drift", "{{ event.payload.reason }}")],
        ),
        Automation(
            name="evergreen: tell of a refused retrain",
            trigger=_on({REFUSED}),
            actions=[tell("Retrain refused", "{{ event.payload.reason }}")],
        ),
        Automation(
            name="evergreen: tell of a promotion",
            trigger=_on({PROMOTED}),
            actions=[tell("Promotion", CHANGE)],
        ),
        Automation(
            name="evergreen: tell of a rollback",
            trigger=_on({ROLLED_BACK}),
            actions=[tell("Rollback", CHANGE)],
        ),
        Automation(
            name="evergreen: tell of an approval",
            trigger=_on({APPROVAL}),
            actions=[
                tell(
                    "Approval wanted",
                    "{{ event.resource.name }}: {{ event.payload.reason }}."
                    " `evergreen models approve {{ event.payload.flow_run_id }}`, or reject",
                )
            ],
        ),
        Automation(
            name="evergreen: tell of a failed run",
            trigger=_on(
                {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
                related=ours,
            ),
            actions=[
                tell(
                    "Run failed",
                    "{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.message }}",
                )
            ],
        ),
        Automation(
            name="evergreen: tell of a failed action",
            trigger=_on({"prefect.automation.action.failed"}, within=timedelta(minutes=10)),
            actions=[
                tell("Automation failed", "{{ event.resource.name }}: {{ event.payload.reason }}")
            ],
        ),
    ]
    silence = Automation(
        name=SILENCE,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Completed"},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{deployments['reconcile']}",
            },
            posture=Posture.Proactive,
            threshold=1,
            within=3 * reconcile_every,
        ),
        actions=[
            tell("Nothing is served", f"no reconcile has completed within {3 * reconcile_every}")
        ],
    )
    if settings.block or settings.webhook:
        wanted.append(silence)
    else:
        remove(SILENCE)
    wanted += [roll_back(event, deployments["rollback"]) for event in rollback_on]
    for automation in wanted:
        upsert(automation)
    if settings.block is not None or settings.webhook is None:
        forget_webhook()
    names = [automation.name for automation in wanted]
    for known in registered(ROLL_BACK):
        if known not in names:
            remove(known)
    return names


def roll_back(event: str, rollback: UUID) -> Automation:
    """Go back to `previous` when this event comes."""
    return Automation(
        name=f"{ROLL_BACK}{event}",
        trigger=_on({event}, within=ROLL_BACK_QUIET),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=rollback,
                parameters={"to": "previous", "reason": f"event {event}", "unattended": True},
            )
        ],
    )


def registered(prefix: str) -> list[str]:
    """Names of the automations on the server that begin so."""
    with get_client(sync_client=True) as client:
        return [one.name for one in client.read_automations() if one.name.startswith(prefix)]


def upsert(automation: Automation) -> None:
    """Create an automation, or change the one of its name."""
    try:
        # Prefect's functions serve sync and async callers; we are sync.
        known = cast(Automation, Automation.read(name=automation.name))
    except ValueError:
        automation.create()
        return
    automation.id = known.id
    automation.update()


def remove(name: str) -> None:
    """Delete the automation of this name, if there is one."""
    # Prefect's functions serve sync and async callers; we are sync.
    with suppress(ValueError):
        cast(Automation, Automation.read(name=name)).delete()


def forget_webhook() -> None:
    """Delete the block of a webhook that is no longer set, and its secret with it."""
    # Prefect's functions serve sync and async callers; we are sync.
    with suppress(ValueError):
        cast(None, Webhook.delete(WEBHOOK_BLOCK))


def notification(title: str, body: str, notify: UUID, settings: NotifySettings) -> ActionTypes:
    """The action that tells people: the server's own where one is set up, else a log line."""
    if settings.block is not None:
        return SendNotification(
            block_document_id=_block(settings.block), subject=f"Evergreen: {title}", body=body
        )
    if settings.webhook is not None:
        # The server keeps a block's URL encrypted, and shows it to nobody.
        block = Webhook(method="POST", url=SecretStr(settings.webhook.reveal("notify.webhook")))
        identifier = cast(UUID, block.save(WEBHOOK_BLOCK, overwrite=True))
        payload = f'{{"title": "Evergreen: {title}", "body": {_as_json(body)}}}'
        return CallWebhook(block_document_id=identifier, payload=payload)
    return RunDeployment(
        source="selected",
        deployment_id=notify,
        parameters={"title": title, "body": _jinja(body)},
    )


def _as_json(template: str) -> str:
    """A Jinja template of text as one of a JSON string."""
    return "{% set body %}" + template + "{% endset %}{{ body | string | tojson }}"


def _block(name: str) -> UUID:
    try:
        identifier = cast(Block, Block.load(name))._block_document_id
    except ValueError as error:
        raise ConfigError(
            f"there is no block {name!r} on the Prefect server",
            "create it in the Prefect UI (Blocks), or correct notify.block",
        ) from error
    if identifier is None:
        raise ConfigError(f"block {name!r} is not saved", "save it")
    return identifier


def _on(
    events: set[str],
    *,
    related: dict[str, str] | None = None,
    within: timedelta = QUIET,
) -> EventTrigger:
    return EventTrigger(
        expect=events,
        match_related=related or {},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=within,
    )


def _jinja(template: str) -> dict[str, Any]:
    return {"__prefect_kind": "jinja", "template": template}
