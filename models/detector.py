"""The learned detector of personal data: a token classifier on the bundled sentence encoder.

MiniLM's first layers under one linear layer that names each word's entity, or none. The
encoder's vocabulary has no capital letters, so that names are found however they are written;
what is written large is told to it by the token types. Texts of any length are read in
overlapping windows.
"""

import importlib.util
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from data_contracts.digests import digest_folder
from data_contracts.errors import ModelError
from data_contracts.findings import Finding
from models.encoder import BUNDLED_PACKAGE

ENTITIES = (
    "PERSON",
    "LOCATION",
    "ORGANIZATION",
    "DATE_OF_BIRTH",
    "USERNAME",
    "SECRET",
    "ID_NUMBER",
    "PHONE_NUMBER",
)
SMALL, TITLE, CAPITALS = 0, 1, 2
WINDOW, OVERLAP = 126, 32  # tokens; with [CLS] and [SEP] a window has 128
TOKENS_A_BATCH = 512  # of activations, what stays in a core's cache: faster than more, and smaller
# Words less likely than this to be personal data are not told of.
FLOOR = 0.3


class DetectorShape(BaseModel):
    """What the weights in a detector's folder are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int
    entities: tuple[str, ...]


class Tagger(nn.Module):
    """Logits [batch, tokens, 1 + entities]; number 0 is nobody's data."""

    def __init__(self, config: BertConfig, shape: DetectorShape) -> None:
        super().__init__()
        config.num_hidden_layers, config.type_vocab_size = shape.layers, 3
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, 1 + len(shape.entities))

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        hidden = self.encoder(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        logits: Tensor = self.head(hidden)
        return logits


@dataclass
class Window:
    """Tokens [start, end) of a text, whose inner part nothing else decides on."""

    text: int
    start: int
    end: int


class Detector:
    """A trained detector, loaded once; of one thread, so that processes can share the cores.

    Raises:
        ModelError: there is none in the folder, or not a whole one.
    """

    def __init__(self, folder: Path) -> None:
        try:
            text = (folder / "shape.json").read_text(encoding="utf-8")
            self.shape = DetectorShape.model_validate_json(text)
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = BertConfig.from_json_file(folder / "config.json")
            self._tagger = Tagger(config, self.shape)
            self._tagger.load_state_dict(load_file(folder / "model.safetensors"))
            self.digest = digest_folder(folder)
        except Exception as error:
            raise ModelError(
                f"there is no whole detector of personal data in {folder}",
                "build it with `evergreen detector`",
            ) from error
        self._tagger.eval()
        if has_matrix_units():
            self._tagger.to(torch.bfloat16)
        elif fast_int8():
            self._tagger = in_int8(self._tagger)

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """Findings of each text, left to right; a finding's score is its words' mean."""
        encodings = self._tokenizer.encode_batch(
            [text.encode("utf-8", "replace").decode() for text in texts], add_special_tokens=False
        )
        chances = [torch.zeros(len(encoding.ids), len(ENTITIES) + 1) for encoding in encodings]
        windows = [
            window for number, encoding in enumerate(encodings)
            for window in windows_of(number, len(encoding.ids))
        ]  # fmt: skip
        for batch in batches(windows):
            longest = max(window.end - window.start for window in batch) + 2
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
            for row, window in enumerate(batch):
                encoding, text = encodings[window.text], texts[window.text]
                tokens = frame(self._tokenizer, encoding.ids[window.start : window.end])
                ids[row, : len(tokens)] = torch.tensor(tokens)
                cases = casing(text, encoding.offsets[window.start : window.end])
                types[row, 1 : len(cases) + 1] = torch.tensor(cases)
                mask[row, : len(tokens)] = 1
            with torch.inference_mode():
                probabilities = self._tagger(ids, mask, types).float().softmax(-1)
            for row, window in enumerate(batch):
                inner = probabilities[row, 1 : window.end - window.start + 1]
                part = chances[window.text]
                # Where windows overlap, each decides on the half that is nearer to its middle.
                at = window.start + (OVERLAP // 2 if window.start else 0)
                part[at : window.end] = inner[at - window.start :]
        return [
            spans(encoding, chance.numpy(), self.shape.entities)
            for encoding, chance in zip(encodings, chances, strict=True)
        ]


def spans(encoding: Any, chances: Any, entities: Sequence[str]) -> list[Finding]:
    """Runs of words of the same entity, each word by the mean of its tokens' chances."""
    found: list[Finding] = []
    scores: list[float] = []
    suspects = (1 - chances[:, 0]) >= FLOOR / 2
    if not suspects.any():
        return []
    suspicious = suspects.tolist()
    at, count = 0, len(encoding.ids)
    words, offsets = encoding.word_ids, encoding.offsets
    previous: str | None = None
    while at < count:
        end = at + 1
        while end < count and words[end] == words[at]:
            end += 1
        if not any(suspicious[at:end]):
            previous, at = None, end
            continue
        mean = chances[at:end].mean(0)
        score = 1 - float(mean[0])
        entity = entities[int(mean[1:].argmax())] if score >= FLOOR else None
        if entity is not None:
            start, stop = offsets[at][0], offsets[end - 1][1]
            if entity == previous:
                scores.append(score)
                mean_score = sum(scores) / len(scores)
                found[-1] = Finding(found[-1].start, stop, entity, mean_score)
            else:
                scores = [score]
                found.append(Finding(start, stop, entity, score))
        previous = entity
        at = end
    return found


def windows_of(text: int, tokens: int) -> Iterator[Window]:
    start = 0
    while start < tokens:
        yield Window(text, start, min(start + WINDOW, tokens))
        if start + WINDOW >= tokens:
            return
        start += WINDOW - OVERLAP


def batches(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Windows of like length together, at most `TOKENS_A_BATCH` tokens with their padding."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: window.end - window.start):
        if batch and (len(batch) + 1) * (window.end - window.start + 2) > TOKENS_A_BATCH:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def frame(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if start is None or end is None:
        raise ValueError("the tokenizer is not BERT's")
    return [start, *ids, end]


def casing(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """How the text writes each token: small, with a capital first, or all in capitals."""
    cases = []
    for start, end in offsets:
        part = text[start:end]
        if not part[:1].isupper():
            cases.append(SMALL)
        else:
            cases.append(CAPITALS if len(part) > 1 and part.isupper() else TITLE)
    return cases


def fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_matrix_units() -> bool:
    """Whether it does so several times faster (AMX)."""
    return bool(torch.cpu._is_amx_tile_supported())


def fast_int8() -> bool:
    """Whether it multiplies int8 (AVX-512 VNNI): more than twice float32, and 1.5 times bfloat16
    without matrix units."""
    return bool(torch.cpu._is_vnni_supported())


def in_int8(tagger: Tagger) -> Tagger:
    """Linear layers in int8: weights by output channel, activations as they come."""
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is moving it to another package
        plan = {nn.Linear: quantization.per_channel_dynamic_qconfig}
        quantized: Tagger = quantization.quantize_dynamic(tagger, plan)  # type: ignore[no-untyped-call]
    return quantized


def bundled_encoder() -> Path:
    """Raises ModelError: the encoder's package is not installed."""
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError("the bundled sentence encoder is not installed", "run `make install`")
    return Path(spec.origin).parent / "model"


def save(tagger: Tagger, tokenizer: Tokenizer, shape: DetectorShape, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: one.contiguous() for name, one in tagger.state_dict().items()},
        folder / "model.safetensors",
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(
        json.dumps(tagger.encoder.config.to_dict(), indent=1, sort_keys=True), encoding="utf-8"
    )
    (folder / "shape.json").write_text(shape.model_dump_json(), encoding="utf-8")
