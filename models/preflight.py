"""What a model's and a tokenizer's configuration say about a training that cannot work.

Checked before any rank starts: a rank that fails on it would say `IndexError`, some minutes later.
"""

import copy
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError, ModelError, TrainingError
from data_contracts.records import Message
from models.base import Base, load_config, settle_accelerator
from models.spec import Recipe
from models.template import ChatTemplate, Dialogue, TemplateRefusal, load_template

PROBE = (Message(role="user", content="Hi"), Message(role="assistant", content="Hello"))


def check_model(base: Base, recipe: Recipe) -> None:
    """Refuse what no attempt on any machine can train.

    Raises:
        ConfigError: a setting asks for what the model does not have.
        ModelError: model and tokenizer do not belong together, or cannot be used.
        TrainingError: `train.target_modules` names no module of the model.
    """
    config, template = load_config(base), load_template(base)
    tokenizer = template.tokenizer
    check_positions(base, {"train.max_length": recipe.max_length})
    prompt = check_template(base, template)
    model = weightless(config, base)
    rows = embedding_rows(config, model)
    check_vocabulary(
        base, tokenizer, rows, tokenizer(prompt, add_special_tokens=False)["input_ids"]
    )
    if model is not None:
        check_embedding(base, model, rows)
        check_targets(model, recipe)


def check_device(recipe: Recipe, ranks: int) -> None:
    """Refuse what this machine cannot train.

    Args:
        recipe: how the model is to be trained.
        ranks: processes on this machine.

    Raises:
        ConfigError: it lacks a GPU or a library that the settings need.
    """
    import torch

    if recipe.quantize != "none":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ConfigError(
                f"train.quantize is {recipe.quantize}, but bitsandbytes is not installed",
                "pip install 'evergreen-llm[qlora]', or set train.quantize: none",
            )
        if not torch.cuda.is_available():
            raise ConfigError(
                f"train.quantize is {recipe.quantize}, which needs a CUDA GPU, and there is none",
                "set train.quantize: none",
            )
    if torch.cuda.is_available() and ranks > torch.cuda.device_count():
        raise ConfigError(
            f"train.processes is {ranks}, but this machine has {torch.cuda.device_count()} GPUs",
            "set it to their number, or leave it out",
        )


def check_positions(base: Base, lengths: Mapping[str, int]) -> None:
    """Refuse conversations that are longer than the model's positions.

    Args:
        base: the base model.
        lengths: {setting: tokens of a conversation that it allows}.

    Raises:
        ConfigError: naming the setting.
    """
    positions = getattr(load_config(base).get_text_config(), "max_position_embeddings", None)
    for setting, tokens in lengths.items():
        if isinstance(positions, int) and 0 < positions < tokens:
            raise ConfigError(
                f"{setting} is {tokens}, but {base.id} has {positions} positions",
                f"set {setting} to {positions} or less",
            )


def check_template(base: Base, template: ChatTemplate) -> str:
    """The rendering of a shortest conversation. Raises ModelError: there is none."""
    try:
        text = template.prepare(Dialogue(PROBE)).text
    except TemplateRefusal as refusal:
        raise ModelError(
            f"the chat template of {base.id} cannot render a question and its answer"
            f" ({refusal.reason})",
            "mend chat_template.jinja in its folder",
        ) from refusal
    if PROBE[1].content not in text:
        raise ModelError(
            f"the chat template of {base.id} leaves out what the assistant says",
            "mend chat_template.jinja in its folder",
        )
    return text


def check_vocabulary(base: Base, tokenizer: Any, rows: int, prompt: list[int]) -> None:
    """Refuse a tokenizer that writes ids for which the model has no embedding.

    A token that was added to the tokenizer and never to the model is left alone until a
    conversation uses it, which the ranks look at: Gemma 3's text models have one.

    Raises:
        ModelError: naming the token.
    """
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"the tokenizer of {base.id} has neither a padding nor an end-of-sequence token",
            "set eos_token in its tokenizer_config.json",
        )
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"the tokenizer of {base.id} has {tokenizer.vocab_size} tokens, its model {rows}",
            "use the tokenizer that the model was trained with",
        )
    special = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
    for token in (*special, *prompt):
        if token is not None and token >= rows:
            raise ModelError(
                f"the token {tokenizer.convert_ids_to_tokens(token)!r} of {base.id} has id {token},"
                f" but its model has only {rows} embeddings",
                "use the tokenizer that the model was trained with, or resize its embeddings",
            )


def embedding_rows(config: Any, model: Any | None) -> int:
    """Tokens that the model knows."""
    if model is not None:
        return int(model.get_input_embeddings().weight.shape[0])
    return int(config.get_text_config().vocab_size)


def check_embedding(base: Base, model: Any, rows: int) -> None:
    """Raises ModelError: the weights have another number of embeddings than config.json says."""
    from safetensors import SafetensorError, safe_open

    embedding = model.get_input_embeddings().weight
    name = next(name for name, one in model.named_parameters() if one is embedding)
    for file in sorted(Path(base.path).glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as stored:
                names = set(stored.keys())
                found = stored.get_slice(name).get_shape()[0] if name in names else rows
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"the weights in {file} cannot be read ({type(error).__name__})",
                "check that the file is not cut short",
            ) from error
        if found != rows:
            raise ModelError(
                f"the weights in {file} have {found} embeddings, config.json says {rows}",
                "restore the config.json that belongs to the weights",
            )


def check_targets(model: Any, recipe: Recipe) -> None:
    """Raises TrainingError: `train.target_modules` names nothing that can have an adapter."""
    from models.lora import attach_lora

    try:
        attach_lora(model, recipe.model_copy(update={"dora": False}))
    except TrainingError:
        raise
    except Exception:  # noqa: BLE001 - as above: it may be for want of weights
        return


def weightless(config: Any, base: Base) -> Any | None:
    """The model without its weights; None where it cannot be made that way.

    Raises:
        ModelError: it is no causal language model.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    settle_accelerator()
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"{base.id} is no causal language model ({type(config).__name__})",
            "point model.base at one",
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    except Exception:  # noqa: BLE001 - what cannot be made without memory may well be trained
        return None
    model.requires_grad_(False)
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
