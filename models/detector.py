"""The learned detector of personal data: a token classifier on the bundled sentence encoder.

MiniLM's first layers under one linear layer that names each word's entity, or none. The
encoder's vocabulary has no capital letters, so that names are found however they are written;
what is written large is told to it by the token types. Texts of any length are read in
overlapping windows, and several short ones lie in one row, each seeing itself alone.
"""

import importlib.util
import json
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
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
WINDOW, OVERLAP = 126, 32  # tokens
FRAME = 2  # tokens about a window: [CLS] and [SEP]
ROW = WINDOW + FRAME
ROWS_A_BATCH = 16
# Words less likely than this to be personal data are not told of.
FLOOR = 0.3

Chances: TypeAlias = NDArray[np.float32]


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

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, places: Tensor | None = None
    ) -> Tensor:
        """All [batch, tokens], `places` being positions in a text, default those in the row; a
        mask [batch, 1, tokens, tokens] is added to the scores of attention."""
        hidden = self.encoder(
            ids, attention_mask=mask, token_type_ids=types, position_ids=places
        ).last_hidden_state
        logits: Tensor = self.head(hidden)
        return logits


@dataclass
class Read:
    """A text's tokens and how it writes them."""

    ids: list[int]
    cases: list[int]


@dataclass
class Window:
    """Tokens [start, end) of a text, whose inner part nothing else decides on."""

    text: int
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start + FRAME


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
            self._tagger = for_matrix_units(self._tagger)
        elif fast_int8():
            self._tagger = in_int8(self._tagger)
        self._dtype = self._tagger.encoder.dtype

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """Findings of each text, left to right; a finding's score is its words' mean."""
        encodings = self._tokenizer.encode_batch(
            [text.encode("utf-8", "replace").decode() for text in texts], add_special_tokens=False
        )
        read = [
            Read(encoding.ids, casing(text, encoding.offsets))
            for text, encoding in zip(texts, encodings, strict=True)
        ]
        chances = [np.zeros((len(one.ids), len(ENTITIES) + 1), np.float32) for one in read]
        rows = packed(
            [window for number, one in enumerate(read) for window in windows_of(number, one)]
        )
        for first in range(0, len(rows), ROWS_A_BATCH):
            batch = rows[first : first + ROWS_A_BATCH]
            for row, found in zip(batch, self._chances(batch, read), strict=True):
                at = 0
                for window in row:
                    # Where windows overlap, each decides on the half that is nearer to its middle.
                    left = OVERLAP // 2 if window.start else 0
                    inner = found[at + 1 + left : at + window.size - 1]
                    chances[window.text][window.start + left : window.end] = inner
                    at += window.size
        return [
            spans(encoding, chance, self.shape.entities)
            for encoding, chance in zip(encodings, chances, strict=True)
        ]

    def _chances(self, rows: Sequence[Sequence[Window]], read: Sequence[Read]) -> Chances:
        """[rows, tokens, 1 + entities]: of each token of these rows."""
        longest = max(sum(window.size for window in row) for row in rows)
        inputs = np.zeros((4, len(rows), longest), np.int64)
        for number, row in enumerate(rows):
            ids: list[int] = []
            types: list[int] = []
            places: list[int] = []
            owners: list[int] = []
            for owner, window in enumerate(row, start=1):
                part = slice(window.start, window.end)
                ids += frame(self._tokenizer, read[window.text].ids[part])
                types += [0, *read[window.text].cases[part], 0]
                places += range(window.size)
                owners += [owner] * window.size
            inputs[:, number, : len(ids)] = ids, types, places, owners
        words, kinds, positions, owned = torch.from_numpy(inputs)
        others = owned[:, None, :, None] != owned[:, None, None, :]
        mask = torch.zeros(others.shape, dtype=self._dtype).masked_fill_(others, -torch.inf)
        with torch.inference_mode():
            logits = self._tagger(words, mask, kinds, positions)
            chances: Chances = logits.float().softmax(-1).numpy()
        return chances


def spans(encoding: Any, chances: Chances, entities: Sequence[str]) -> list[Finding]:
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


def windows_of(number: int, text: Read) -> Iterator[Window]:
    start, tokens = 0, len(text.ids)
    while start < tokens:
        yield Window(number, start, min(start + WINDOW, tokens))
        if start + WINDOW >= tokens:
            return
        start += WINDOW - OVERLAP


def packed(windows: Sequence[Window]) -> list[list[Window]]:
    """Rows of at most `ROW` tokens: the largest window that is left, smallest ones beside it."""
    left = deque(sorted(windows, key=lambda window: -window.size))
    rows = []
    while left:
        row = [left.popleft()]
        used = row[0].size
        while left and used + left[-1].size <= ROW:
            row.append(left.pop())
            used += row[-1].size
        rows.append(row)
    return rows


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


class Laid(nn.Module):
    """A bfloat16 linear layer whose weights lie as the matrix units take them, and not as they
    would be laid out anew in each call; with GELU behind it where asked."""

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        weight, self._bias = linear.weight.detach(), linear.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_A_BATCH * ROW)
        self._then: tuple[str, list[Any], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        laid = torch.ops.mkldnn._linear_pointwise
        out: Tensor = laid(x, self._weight, self._bias, *self._then)
        return out


def for_matrix_units(tagger: Tagger) -> Tagger:
    """In bfloat16, its layers' linear parts as `Laid`: a tenth faster."""
    tagger.to(torch.bfloat16)
    for layer in tagger.encoder.encoder.layer:
        own, out = layer.attention.self, layer.attention.output
        own.query, own.key, own.value = (Laid(one) for one in (own.query, own.key, own.value))
        out.dense = Laid(out.dense)
        layer.intermediate.dense = Laid(layer.intermediate.dense, gelu=True)
        layer.intermediate.intermediate_act_fn = nn.Identity()
        layer.output.dense = Laid(layer.output.dense)
    return tagger


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
