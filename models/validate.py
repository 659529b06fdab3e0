"""Validation loss of saved adapters, in a process of its own: what is judged is what is on disk.

    python -m models.validate SPEC.json

Reads the folder of an adapter from each line of its input and answers with a line of JSON. It
loads the base once, and shares nothing with the training but files, and the GPU: the training
waits for an answer, and in that time the base is there too.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import EvergreenError, TrainingError
from models.spec import FinetuneSpec


class Answer(BaseModel):
    """Mean loss (nats a supervised token) of one adapter."""

    model_config = ConfigDict(frozen=True)

    loss: float


class Validator:
    """The process, as its asker sees it."""

    def __init__(self, spec_file: Path, *, on_gpu: bool) -> None:
        environment = os.environ | ({} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""})
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            environment.pop(name, None)
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "models.validate", str(spec_file)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._input = cast(IO[str], self._process.stdin)
        self._output = cast(IO[str], self._process.stdout)

    def loss(self, adapter: Path) -> float:
        """Raises TrainingError: the process ended, or says that the adapter is not whole."""
        with contextlib.suppress(BrokenPipeError):  # its answer is then empty
            self._input.write(f"{adapter}\n")
            self._input.flush()
        line = self._output.readline()
        if not line:
            raise TrainingError(
                f"the validation process ended with {self._process.wait()}", "see the log"
            )
        return Answer.model_validate_json(line).loss

    def close(self) -> None:
        self._input.close()
        self._process.wait()


def serve(spec: FinetuneSpec) -> None:
    import torch

    from models.adapters import Adapter, apply
    from models.base import load_tokenizer, load_weights
    from models.encoding import read_encoding, validation_split
    from models.memory import release
    from models.score import mean_loss, score

    tokenizer = load_tokenizer(spec.base)
    encoded, _ = read_encoding(spec)
    _, examples = validation_split(encoded, spec.recipe.validation_share)
    model = load_weights(spec.base).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for line in sys.stdin:
        tuned = apply(model.to(device), spec.base, Adapter.at(Path(line.strip())))
        loss = mean_loss(score(tuned, examples, tokenizer.pad_token_id))
        model = tuned.unload().cpu()
        release()
        print(Answer(loss=loss).model_dump_json(), flush=True)


def main() -> int:
    spec = FinetuneSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        serve(spec)
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
