"""Data contracts: Open Data Contract Standard files, read with the standard's own model."""

from importlib import resources
from pathlib import Path

import yaml
from open_data_contract_standard.model import OpenDataContractStandard
from pydantic import ValidationError

from data_contracts.errors import ConfigError

CONVERSATIONS = "conversations.odcs.yaml"
INFERENCE_LOGS = "inference_logs.odcs.yaml"


def load_contract(
    path: str | None = None, *, default: str = CONVERSATIONS
) -> OpenDataContractStandard:
    """Read a contract, by default one of those that ship with Evergreen.

    Raises:
        ConfigError: no such file, or not an ODCS data contract.
    """
    name = path or default
    try:
        if path is None:
            text = resources.files("data_contracts").joinpath(default).read_text("utf-8")
        else:
            text = Path(path).read_text(encoding="utf-8")
        contract = OpenDataContractStandard.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise ConfigError(f"cannot read the contract {name}", "correct contract.path") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{name} is not an Open Data Contract Standard file"
            f" ({' '.join(str(error).split())[:200]})",
            "correct it, or leave contract.path out to use the default",
        ) from error
    if contract.kind != "DataContract" or not contract.version or not contract.schema_:
        raise ConfigError(f"{name} lacks kind: DataContract, version or schema", "add them")
    return contract
