"""Secrets in settings: a token, or a URL with a password, and where it is read from.

| in YAML | is read from |
|---|---|
| `webhook: {env: NAME}` | the environment variable NAME |
| `webhook: {file: PATH}` | a file, as secret managers mount one; white space around it is dropped |
| `webhook: {block: NAME}` | a Prefect `Secret` block |
| `webhook: "https://..."` | this very text |

It is read each time it is used, so a secret can be changed under a running stack. A secret given as
text is dumped as `**********`, and the JSON schema, by which the Prefect server checks parameters,
admits only the other three.
"""

import os
import re
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    SerializationInfo,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from data_contracts.errors import ConfigError

MASK = "**********"
# A dump in this context leaves secrets out: they decide no result, so no cache key holds them.
WITHOUT_SECRETS = {"secrets": "left out"}


class Secret(BaseModel):
    """A setting that nobody may read: its text, or where to find it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # What the text has to look like, and what is said of one that does not.
    form: ClassVar[tuple[re.Pattern[str], str]] = (re.compile(r"\S+"), "must not hold white space")
    # Texts that are no secret.
    public: ClassVar[str | None] = None

    value: SecretStr | None = None
    # Strict, so that a secret in the wrong place is refused instead of shown as a name.
    env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    file: Path | None = None
    block: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, str | SecretStr) else given

    @model_validator(mode="after")
    def _is_one_and_well_formed(self) -> Self:
        given = (self.value, self.env, self.file, self.block)
        if sum(one is not None for one in given) != 1:
            raise ValueError("give one of env, file and block, or the text itself")
        if self.text is not None:
            if self.text == MASK:
                raise ValueError(f"{MASK} hides a secret; say where to read it: {{env: NAME}}")
            self._require_form(self.text)
        return self

    @model_serializer(mode="plain", when_used="json")
    def _shown(self, info: SerializationInfo) -> Any:
        if self.is_public:
            return self.text
        if info.context == WITHOUT_SECRETS:
            return None
        return MASK if self.text is not None else self._reference

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        reference = {
            "type": "object",
            "title": "Where to read it",
            "properties": {name: {"type": "string"} for name in ("env", "file", "block")},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        if cls.public is None:
            return reference
        return {"anyOf": [{"type": "string", "pattern": f"^{cls.public}$"}, reference]}

    @property
    def text(self) -> str | None:
        """The secret, where the setting is not a reference."""
        return None if self.value is None else self.value.get_secret_value()

    @property
    def is_public(self) -> bool:
        """Whether the text holds nothing secret."""
        text, public = self.text, self.public
        return text is not None and public is not None and re.fullmatch(public, text) is not None

    @property
    def _reference(self) -> dict[str, str]:
        return {
            name: str(place)
            for name in ("env", "file", "block")
            if (place := getattr(self, name)) is not None
        }

    def reveal(self, key: str) -> str:
        """The secret itself.

        Args:
            key: name of the setting, for the error.

        Raises:
            ConfigError: it is not where the setting says, or is no such secret.
        """
        if self.text is not None:
            return self.text
        found = self._read(key).strip()
        try:
            self._require_form(found)
        except ValueError as error:
            raise ConfigError(f"{key}: {self._place} {error}", "correct what it holds") from None
        return found

    @property
    def _place(self) -> str:
        if self.env is not None:
            return f"the environment variable {self.env}"
        return f"the file {self.file}" if self.file is not None else f"the block {self.block!r}"

    def _read(self, key: str) -> str:
        if self.env is not None:
            if (found := os.environ.get(self.env)) is None:
                raise ConfigError(
                    f"{key}: {self._place} is not set", "set it where the run's process starts"
                )
            return found
        if self.file is not None:
            try:
                return self.file.expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "not UTF-8"
                raise ConfigError(
                    f"{key}: cannot read {self._place} ({why})", "correct it"
                ) from None
        return self._read_block(key)

    def _read_block(self, key: str) -> str:
        import httpx
        from prefect.blocks.system import Secret as SecretBlock

        try:
            # Prefect's functions serve sync and async callers; we are sync.
            return str(cast(Any, SecretBlock.load(str(self.block))).get())
        except (ValueError, RuntimeError, httpx.HTTPError) as error:
            raise ConfigError(
                f"{key}: cannot read {self._place} ({type(error).__name__})",
                f"create a Secret block {self.block!r} in the Prefect UI, and set PREFECT_API_URL",
            ) from None

    def _require_form(self, text: str) -> None:
        pattern, said = self.form
        if not pattern.fullmatch(text):
            raise ValueError(said)


class WebhookUrl(Secret):
    """A URL that is called; often its path is a token."""

    form = (re.compile(r"https?://\S+"), "must be an http:// or https:// URL")


class Address(Secret):
    """The URL of a database or server; a secret if it holds a user, a password or a query."""

    form = (re.compile(r"\S.*"), "must not be empty")
    public = r"[^@?]*"
