"""The one tree of settings: a YAML file, then the environment, then the command line.

`EVERGREEN_TRAIN__EPOCHS=2` in the environment is `train: {epochs: 2}` in the file.
"""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from data_contracts.errors import ConfigError
from data_contracts.workspace import HOME_VARIABLE
from models.base import ModelSettings
from models.encoder import EncoderSettings
from tasks.decide import DecideSettings
from tasks.drift.compare import DriftSettings
from tasks.evaluate import EvaluateSettings
from tasks.ingest import IngestSettings, Source
from tasks.ledger.database import LedgerSettings
from tasks.ledger.episodes import EpisodeSettings
from tasks.ledger.requests import LimitSettings
from tasks.logs import WatchSettings
from tasks.notify import NotifySettings
from tasks.promote import PromoteSettings
from tasks.replay import ReplaySettings
from tasks.scrub import ScrubSettings
from tasks.scrub.replace import KEY_FILE_VARIABLE, KEY_VARIABLE
from tasks.secrets import WITHOUT_SECRETS, Secret
from tasks.split import SplitSettings
from tasks.tracking import TrackingSettings
from tasks.train import TrainSettings
from tasks.validate import ValidateSettings

PREFIX = "EVERGREEN_"
DELIMITER = "__"
# What the environment says of where state is and of secrets is no setting.
NOT_SETTINGS = (HOME_VARIABLE, KEY_VARIABLE, KEY_FILE_VARIABLE)
SHOWN = "addresses are shown to everybody: see Secrets in docs/configuration.md"
# `scheme://user:password@host`, or a token before a web address's host.
CREDENTIALS = re.compile(r"://[^/?#@]*:[^/?#@]*@|https?://[^/?#]*@", re.IGNORECASE)


class Settings(BaseModel):
    """Everything a retrain can be told."""

    # An error's text may be logged, and what was given may hold a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(
        default="evergreen",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the registered model in MLflow.",
    )
    data: IngestSettings = Field(default=IngestSettings(), description="Where data comes from.")
    scrub: ScrubSettings = Field(default=ScrubSettings(), description="Removing personal data.")
    contract: ValidateSettings = Field(default=ValidateSettings(), description="What data must be.")
    split: SplitSettings = Field(default=SplitSettings(), description="Holding out.")
    model: ModelSettings = Field(default=ModelSettings(), description="The base model.")
    train: TrainSettings = Field(default=TrainSettings(), description="Fine-tuning.")
    evaluate: EvaluateSettings = Field(default=EvaluateSettings(), description="Comparing models.")
    decide: DecideSettings = Field(default=DecideSettings(), description="Promoting.")
    promote: PromoteSettings = Field(
        default=PromoteSettings(), description="Approval, rollback, telling consumers."
    )
    watch: WatchSettings = Field(default=WatchSettings(), description="Production traffic.")
    encoder: EncoderSettings = Field(default=EncoderSettings(), description="Sentence encoder.")
    drift: DriftSettings = Field(default=DriftSettings(), description="Telling drift from chance.")
    episode: EpisodeSettings = Field(default=EpisodeSettings(), description="Drift that lasts.")
    replay: ReplaySettings = Field(default=ReplaySettings(), description="Data after drift.")
    limits: LimitSettings = Field(default=LimitSettings(), description="Unattended retrains.")
    ledger: LedgerSettings = Field(default=LedgerSettings(), description="Retrain requests.")
    notify: NotifySettings = Field(default=NotifySettings(), description="Telling people.")
    tracking: TrackingSettings = Field(default=TrackingSettings(), description="MLflow.")

    @model_validator(mode="after")
    def _only_secrets_hold_credentials(self) -> Self:
        dump = self.model_dump(mode="json", context=WITHOUT_SECRETS)
        for key, text in _texts(dump, ""):
            if CREDENTIALS.search(text):
                raise ValueError(f"the address {key} holds a password")
        return self


def require_no_password(address: str, name: str) -> None:
    """Raises ConfigError: an address of the command line holds a password, and would be shown."""
    if CREDENTIALS.search(address):
        raise ConfigError(f"the address {name} holds a password", SHOWN)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a tree of settings."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from _texts(part, f"{key}.{place}")


class _Sources(Settings, BaseSettings):
    """`Settings` filled from the environment as well; used for reading only."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        nested_model_default_partial_update=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' interface
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file is given as init arguments: the environment goes before it.
        return (env_settings, InitSettingsSource(settings_cls, init_settings()))


def load_settings(
    file: Path | None = None,
    *,
    data: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        file: YAML file; None for defaults and the environment alone.
        data: paths that replace `data.sources`.
        overrides: top-level values that go before file and environment.

    Raises:
        ConfigError: naming each wrong key, where it was set, and what to do.
    """
    tree = _read_yaml(file) if file else {}
    _refuse_unknown_environment()
    try:
        settings = _Sources(**tree)
        merged = settings.model_dump() | (overrides or {})
        if data:
            merged["data"] = {
                **merged["data"],
                "sources": [Source(path=path).model_dump() for path in data],
            }
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, file) from error
    except ValueError as error:  # an environment variable that should be JSON and is not
        raise ConfigError(str(error).splitlines()[0], "write lists and objects as JSON") from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no settings file {file}", "check --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {file}", "check --config") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{file} is not YAML{line}", "correct its syntax") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{file} is not a mapping of settings", "write `key: value` lines")
    return tree


def _refuse_unknown_environment() -> None:
    """pydantic-settings passes over top-level names that it does not know; we do not."""
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            key = variable.removeprefix(PREFIX).lower().split(DELIMITER)[0]
            if key not in Settings.model_fields:
                raise ConfigError(
                    f"unknown setting {key!r} in the environment variable {variable}",
                    _suggestion(key, list(Settings.model_fields)),
                )


def _explain(error: ValidationError, file: Path | None) -> ConfigError:
    problems, fixes = [], []
    for detail in error.errors(include_input=False, include_url=False):
        path = [str(part) for part in detail["loc"]]
        key = ".".join(path)
        place = _place(path, file)
        if detail["type"] == "extra_forbidden":
            problems.append(f"unknown setting {key!r}{place}")
            fixes.append(_suggestion(path[-1], _siblings(path)))
        elif not path:  # the rule of the whole tree
            problems.append(f"{detail['msg'].removeprefix('Value error, ')}{place}")
            fixes.append(SHOWN)
        elif detail["type"] == "model_type":
            problems.append(f"setting {key!r}{place} is not a mapping of settings")
            fixes.append(f"write `{path[-1]}: {{...}}`")
        else:
            problem = detail["msg"].removeprefix("Value error, ")
            problems.append(f"setting {key!r}{place}: {problem[:1].lower()}{problem[1:]}")
            fixes.append(f"correct {key}")
    return ConfigError("; ".join(problems), "; ".join(dict.fromkeys(fixes)))


def _place(path: list[str], file: Path | None) -> str:
    for length in range(len(path), 0, -1):
        if (name := variable(path[:length])) in os.environ:
            return f" (environment variable {name})"
    return f" in {file}" if file else ""


def _siblings(path: list[str]) -> list[str]:
    """Names of the settings that could have stood where `path` ends."""
    model: Any = Settings
    for part in path[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"settings here are: {', '.join(known)}" if known else "remove it"


def published(settings: Settings) -> dict[str, Any]:
    """The settings as anybody may see them: a secret given as text becomes a reference to the
    environment variable of its setting."""
    shown = settings.model_dump(mode="json")
    for path in _texts_of_secrets(settings):
        place = shown
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = {"env": variable(path)}
    return shown


def secret_variables(settings: Settings) -> dict[str, str]:
    """{environment variable: secret}: where `published` says that the secrets are."""
    return {variable(path): text for path, text in _texts_of_secrets(settings).items()}


def _texts_of_secrets(model: BaseModel) -> dict[tuple[str, ...], str]:
    """{path of the setting: secret} of those that were given as text."""
    found: dict[tuple[str, ...], str] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Secret):
            if value.text is not None and not value.is_public:
                found[(name,)] = value.text
        elif isinstance(value, BaseModel):
            found |= {(name, *path): text for path, text in _texts_of_secrets(value).items()}
    return found


def variable(path: Sequence[str]) -> str:
    """The environment variable of a setting."""
    return PREFIX + DELIMITER.join(path).upper()


def reference() -> str:
    """All settings as a Markdown table, for the documentation."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *_rows(Settings, "")])


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += _rows(field.annotation, f"{prefix}{name}.")
        elif field.default_factory is not None:  # too long for a table
            rows.append(f"| `{prefix}{name}` | `evergreen config` | {field.description} |")
        else:
            default = TypeAdapter(Any).dump_python(field.get_default(), mode="json")
            shown = yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()
            rows.append(f"| `{prefix}{name}` | `{shown}` | {field.description} |")
    return rows
