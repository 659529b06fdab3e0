"""The scrub policy: what counts as personal data, when to believe it, and what replaces it."""

import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_contracts.digests import digest_model
from data_contracts.errors import ConfigError

# What stands in the place of personal data: the entity and a number, or a pseudonym's digits.
PLACEHOLDER = re.compile(r"<[A-Z_]+_(\d+|[0-9a-f]{12})>")

DEFAULT_POLICY = "scrub_policy.yaml"

Operator = Literal["placeholder", "pseudonym", "surrogate"]

# What the learned detector is trained on (`tasks.scrub.synthetic`).
TAUGHT = ("en", "de", "fr", "es", "it", "pt", "nl")


class EntityRule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(ge=0, le=1)
    operator: Operator | None = None


class ScrubPolicy(BaseModel):
    """A policy file's content; see `scrub_policy.yaml` for what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1)
    detector: bool = True
    languages: tuple[str, ...] = TAUGHT
    models: dict[str, str] = {}
    uncovered: Literal["patterns", "quarantine", "refuse"] = "patterns"
    strict: bool = False
    countries: tuple[str, ...] = ()
    entities: dict[str, EntityRule] = Field(min_length=1)
    operator: Operator = "placeholder"
    consistent: Literal["conversation", "everywhere"] = "conversation"
    allow_list: tuple[str, ...] = ()
    deny_list: dict[str, tuple[str, ...]] = {}
    on_failure: Literal["quarantine", "stop"] = "quarantine"
    max_message_characters: int = Field(default=100_000, gt=0)
    max_seconds: float = Field(default=20.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _is_of_this_form(cls, value: Any) -> Any:
        """What files of version 2 say of languages has moved."""
        if isinstance(value, dict):
            if "spacy_model" in value:
                raise ValueError("spacy_model has become models: write `models: {pl: its name}`")
            if "language" in value:
                raise ValueError("language has become languages: write `languages: [en, de]`")
        return value

    @model_validator(mode="after")
    def _languages_are_taught(self) -> Self:
        if self.detector and (untaught := set(self.languages) - set(TAUGHT)):
            raise ValueError(
                f"languages names {sorted(untaught)[0]}, which the detector was not taught: name a"
                " spaCy model for it in models"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        unknown = set(self.deny_list) - set(self.entities)
        if unknown:
            raise ValueError(f"deny_list names {sorted(unknown)[0]}, which is not among entities")
        return self

    @property
    def digest(self) -> str:
        return digest_model(self)

    @property
    def covered(self) -> tuple[str, ...]:
        """Languages in which names and places are found, by the detector or by a model."""
        return (*(self.languages if self.detector else ()), *self.models)

    def operator_of(self, entity: str) -> Operator:
        """What is done with findings of an entity."""
        return self.entities[entity].operator or self.operator

    @property
    def needs_key(self) -> bool:
        """Whether any replacement depends on a secret."""
        return any(self.operator_of(entity) != "placeholder" for entity in self.entities)


def load_policy(path: str | None = None) -> ScrubPolicy:
    """Read a policy file, by default the one that ships with Evergreen.

    Raises:
        ConfigError: no such file, or a key in it is unknown or wrong.
    """
    name = path or DEFAULT_POLICY
    try:
        if path is None:
            text = resources.files("data_contracts").joinpath(DEFAULT_POLICY).read_text("utf-8")
        else:
            text = Path(path).read_text(encoding="utf-8")
        return ScrubPolicy.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise ConfigError(f"cannot read the scrub policy {name}", "correct scrub.policy") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML", "correct its syntax") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in detail['loc']) or 'the file'}: {detail['msg']}"
            for detail in error.errors(include_input=False)
        ]
        raise ConfigError(f"{name}: {'; '.join(problems)}", "correct it") from error
