"""Trains the detector of personal data (`models.detector`) on labelled texts."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import BertConfig

from data_contracts.findings import LabelledText
from models.detector import (
    ENTITIES,
    WINDOW,
    DetectorShape,
    Tagger,
    bundled_encoder,
    casing,
    fast_bfloat16,
    frame,
    save,
)
from models.spec import DetectorTraining

NOT_TAUGHT = -100  # patterns find these: neither right nor wrong


def train(
    texts: Sequence[LabelledText],
    settings: DetectorTraining,
    folder: Path,
    on_progress: Callable[[int, int, float], None] = lambda *_: None,
) -> None:
    """Train on each text once and write the detector to `folder`.

    Args:
        texts: in any order; a text longer than a window is cut.
        settings: how.
        folder: made, or overwritten.
        on_progress: called with (texts done, texts in all, mean loss lately).
    """
    torch.manual_seed(settings.seed)
    shape = DetectorShape(layers=settings.layers, entities=ENTITIES)
    source = bundled_encoder()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tagger = Tagger(BertConfig.from_json_file(source / "config.json"), shape)
    start_from_encoder(tagger, load_file(source / "model.safetensors"))
    examples = [example(tokenizer, text) for text in texts]
    order = batches(examples, settings)
    # The vocabulary stays as it is: names that are never trained on keep their likeness to those
    # that are, and two thirds of the weights need no gradient.
    tagger.encoder.embeddings.word_embeddings.requires_grad_(False)
    taught = [one for one in tagger.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(taught, lr=settings.learning_rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=len(order), pct_start=0.1
    )
    done, recent = 0, 0.0
    tagger.train()
    for step, batch in enumerate(order):
        ids, types, mask, labels = (
            torch.nn.utils.rnn.pad_sequence([row[part] for row in batch], True, value)
            for part, value in enumerate((0, 0, 0, NOT_TAUGHT))
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            logits = tagger(ids, mask, types)
        loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(taught, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done += len(batch)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        on_progress(done, len(examples), recent)
    save(tagger, tokenizer, shape, folder)


Example = tuple[Tensor, Tensor, Tensor, Tensor]


def example(tokenizer: Tokenizer, labelled: LabelledText) -> Example:
    """Ids, casing, mask and labels of a text's first window; each [tokens]."""
    encoding = tokenizer.encode(labelled.text, add_special_tokens=False)
    ids = frame(tokenizer, encoding.ids[:WINDOW])
    cases = [0, *casing(labelled.text, encoding.offsets[:WINDOW]), 0]
    targets = [0]
    for start, end in encoding.offsets[:WINDOW]:
        entity = next((one.entity for one in labelled.labels if one.overlaps(start, end)), None)
        if entity is None:
            targets.append(0)
        else:
            targets.append(ENTITIES.index(entity) + 1 if entity in ENTITIES else NOT_TAUGHT)
    targets.append(0)
    return (
        torch.tensor(ids),
        torch.tensor(cases),
        torch.ones(len(ids), dtype=torch.long),
        torch.tensor(targets),
    )


def batches(examples: Sequence[Example], settings: DetectorTraining) -> list[list[Example]]:
    """Texts of like length together, in random order."""
    draw = random.Random(settings.seed)
    made: list[list[Example]] = []
    batch: list[Example] = []
    for one in sorted(examples, key=lambda one: len(one[0]) + draw.random()):
        if batch and (len(batch) + 1) * len(one[0]) > settings.tokens_a_batch:
            made.append(batch)
            batch = []
        batch.append(one)
    made.append(batch)
    draw.shuffle(made)
    return made


def start_from_encoder(tagger: Tagger, weights: dict[str, Tensor]) -> None:
    """The encoder's weights, as far as the tagger has layers; three casings from one."""
    own = tagger.encoder.state_dict()
    types = "embeddings.token_type_embeddings.weight"
    weights = {name.removeprefix("bert."): value for name, value in weights.items()}
    taken = {name: value for name, value in weights.items() if name in own and name != types}
    missing = set(own) - set(taken) - {types}
    if missing:
        raise ValueError(f"the encoder has no {sorted(missing)[:3]}")
    tagger.encoder.load_state_dict({**own, **taken, types: weights[types][:1].repeat(3, 1)})
