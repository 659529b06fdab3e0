"""Notify: tell people, by what they have set up; the log otherwise."""

from pydantic import BaseModel, ConfigDict, Field


class NotifySettings(BaseModel):
    """Who is told when something fails, is refused or drifts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    block: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="A Prefect notification block, `slack-webhook/oncall`; the server sends.",
    )
    webhook: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="A URL that gets `{title, body}` as JSON by POST; the server sends.",
    )
