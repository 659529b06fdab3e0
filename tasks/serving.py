"""The MLflow model that an adapter is registered as: base and adapter, loaded and asked.

MLflow stores this file beside the adapter and runs it on load, so it imports Evergreen
and holds no state of its own.
"""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

from data_contracts.records import Message
from data_contracts.workspace import Workspace
from models.adapters import Adapter, load_model
from models.base import Base, local_base
from models.generate import answer
from models.template import load_template


class AdapterModel(PythonModel):  # type: ignore[misc]
    """`predict` takes a list of questions and gives a list of answers."""

    def load_context(self, context: Any) -> None:
        recorded = Base.model_validate_json(
            Path(context.artifacts["base"]).read_text(encoding="utf-8")
        )
        base = local_base(recorded, Workspace.current().models)
        self.template = load_template(base)
        self.model = load_model(base, Adapter.at(Path(context.artifacts["adapter"])))

    def predict(self, model_input: list[str]) -> list[str]:
        return [
            answer(self.model, self.template, (Message(role="user", content=question),))
            for question in model_input
        ]


mlflow.models.set_model(AdapterModel())
