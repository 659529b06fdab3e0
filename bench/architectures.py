"""Every causal language model that transformers knows, made tiny and trained: what works, what not.

    python -m bench.architectures [--results FILE] [NAME...]

Each is made from its own configuration class with small sizes and random weights, saved, loaded as
a base, given an adapter, trained for a few steps on two conversations (packed where the model
allows it), saved, read back, compared with what was trained, and asked a question: with the
product's own parts, in one process a model, without DeepSpeed. With `--results` each row is written
as soon as it is known, and only models without one, or those that are named, are tried. The last
line is one JSON object.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from data_contracts.records import Message, Record

OURS = ("models.adapters", "models.chat", "models.generate", "models.lora", "models.plan")
SECONDS, BYTES = 240, 12 * 2**30
VOCABULARY = 384
BY_SIZE: dict[int, str] = {
    64: "hidden_size d_model n_embd dim embed_dim emb_dim embedding_size lru_width sliding_window"
    " window_size local_attention",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers"
    " num_encoder_layers num_decoder_layers num_key_value_heads num_kv_heads linear_num_key_heads"
    " linear_num_value_heads swa_num_key_value_heads num_experts_per_tok num_experts_per_token"
    " moe_k moe_top_k",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads"
    " decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads"
    " swa_num_attention_heads num_local_experts num_experts n_routed_experts moe_num_experts",
    128: "intermediate_size ffn_dim d_ff d_inner dff n_inner encoder_ffn_dim decoder_ffn_dim"
    " ffn_hidden_size inner_dim dense_intermediate_size shared_intermediate_size",
    32: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size"
    " moe_shared_expert_intermediate_size",
    16: "head_dim v_head_dim attention_head_dim linear_key_head_dim linear_value_head_dim"
    " global_head_dim swa_head_dim q_lora_rank kv_lora_rank dt_rank time_step_rank mamba_d_state"
    " mamba_d_head mamba_head_dim ssm_state_size state_size query_pre_attn_scalar"
    " hidden_size_per_layer_input",
    8: "qk_rope_head_dim qk_nope_head_dim laurel_rank mamba_n_heads mamba_num_heads rotary_dim",
    512: "max_position_embeddings n_positions max_seq_len n_ctx context_length"
    " max_sequence_length seq_length",
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
    1: "n_group topk_group first_k_dense_replace bos_token_id eos_token_id",
    0: "num_kv_shared_layers pad_token_id decoder_start_token_id",
}
SIZES = {name: size for size, names in BY_SIZE.items() for name in names.split()}
SEEING = {"image_size": 28, "patch_size": 14, "num_channels": 3}
ROUTING = ("num_experts_per_tok", "n_group", "topk_group")
LISTS = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny(config_class: Any, *, seeing: bool = False) -> Any:
    """A small configuration: of each attribute that is a size the small value, in parts too."""
    plain = config_class()
    chosen: dict[str, Any] = {
        name: size for name, size in SIZES.items() if isinstance(getattr(plain, name, None), int)
    }
    if "n_routed_experts" in chosen:
        chosen |= {name: SIZES[name] for name in ROUTING if hasattr(plain, name)}
    # With multi-head latent attention, the rotary part of each head has a size of its own.
    if "qk_rope_head_dim" in chosen and hasattr(plain, "head_dim"):
        chosen["head_dim"] = chosen["qk_rope_head_dim"]
    if seeing:
        chosen |= {name: value for name, value in SEEING.items() if hasattr(plain, name)}
        chosen.pop("vocab_size", None)
    for name in getattr(config_class, "sub_configs", ()):
        own = getattr(plain, name, None)
        if own is not None and hasattr(own, "to_dict"):
            text = "text" in name or "decoder" in name
            chosen[name] = tiny(type(own), seeing=not text).to_dict()
    for name in LISTS:
        kinds = getattr(plain, name, None)
        if isinstance(kinds, list | tuple) and len(kinds) >= 2:
            chosen[name] = (list(dict.fromkeys(kinds)) * 2)[:2]
    return _made(config_class, chosen)


def _made(config_class: Any, chosen: dict[str, Any]) -> Any:
    """With as many of the chosen sizes as the class takes together."""
    for names in ((), LISTS, ("head_dim",), (*LISTS, "head_dim")):
        try:
            return config_class(**{k: v for k, v in chosen.items() if k not in names})
        except (TypeError, ValueError, AttributeError, KeyError):
            continue
    return config_class(**chosen)


def tokenizer() -> Any:
    """Bytes and the template's markers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(
        models.BPE(vocab={one: at for at, one in enumerate([*special, *letters])}, merges=[])
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made)
    fast.pad_token, fast.eos_token = special[:2]
    fast.add_special_tokens({"additional_special_tokens": special[2:]})
    fast.chat_template = TEMPLATE
    return fast


def conversations() -> list[Record]:
    words = [
        ("How warm is Oslo?", "Rather mild."),
        ("And Lima, by the sea?", "Humid, as ever, they say."),
    ]
    return [
        Record(
            id=str(at),
            messages=(
                Message(role="user", content=asked),
                Message(role="assistant", content=said),
                Message(role="user", content="Thanks!"),
                Message(role="assistant", content="You are welcome."),
            ),
            source="bench",
        )
        for at, (asked, said) in enumerate(words)
    ]


def attempt(name: str, folder: Path) -> dict[str, Any]:
    """Make, train, save and read back one architecture."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    outcome: dict[str, Any] = {"name": name}
    try:
        config = tiny(CONFIG_MAPPING[name])
        for flag in ("is_decoder", "add_cross_attention"):
            if hasattr(config, flag):
                setattr(config, flag, flag == "is_decoder")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        outcome["parameters"] = sum(one.numel() for one in model.parameters())
        ids = torch.randint(4, 250, (1, 24))
        with torch.no_grad():
            logits = model.eval()(input_ids=ids).logits
        if not bool(logits.isfinite().all()) or logits.shape[1] != 24:
            return outcome | {"result": "not made tiny", "why": "its forward pass gives no logits"}
        model.save_pretrained(folder / "base")
        tokenizer().save_pretrained(folder / "base")
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return outcome | {"result": "not made tiny", "why": _line(error)}
    del model
    try:
        return outcome | train(folder)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return outcome | {"result": "fails", "why": _line(error)}


def train(folder: Path) -> dict[str, Any]:
    """Two steps, with the product's parts."""
    from models.adapters import Adapter, load_model, save_adapter
    from models.base import ModelSettings, load_config, load_weights, resolve_base
    from models.chat import encode_all
    from models.generate import answer
    from models.lora import attach_lora, fuse, remarks_on
    from models.objective import Objective
    from models.plan import shape_of
    from models.probe import Probe
    from models.spec import Recipe
    from models.template import load_template

    base = resolve_base(ModelSettings(base=str(folder / "base"), dtype="float32"), folder / "store")
    template = load_template(base)
    examples, _ = encode_all(template, conversations(), 128)
    recipe = Recipe(lora_rank=4)
    shape = shape_of(load_config(base), recipe, 4)
    tuned = attach_lora(load_weights(base), recipe)
    remarks = remarks_on(tuned)
    fuse(tuned)
    objective = Objective(tuned, template.tokenizer.pad_token_id)
    device = torch.device("cpu")
    padded = objective.eval().settle(examples, device, None)
    learning = [one for one in tuned.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    losses = []
    objective.train()
    for _ in range(3):
        optimizer.zero_grad()
        loss = objective(**objective.batch(examples, device))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    dead = sum(one.grad is None or not bool(one.grad.any()) for one in learning)
    objective.eval()
    before = Probe.of(tuned, examples)
    save_adapter(tuned, folder / "adapter", base)
    again = load_model(base, Adapter.at(folder / "adapter"))
    distance = before.distance(Probe.of(again, examples))
    reply = answer(again, template, conversations()[0].messages[:1], max_new_tokens=4)
    result = "trains" if losses[-1] < losses[0] and distance < 0.05 else "fails"
    return {
        "result": result,
        "why": "" if result == "trains" else f"losses {losses}, read back {distance:.2g} away",
        "packed": padded is None,
        "padded_because": padded or "",
        "estimated": shape.rule or "",
        "remarks": remarks,
        "without_gradient": dead,
        "of_tensors": len(learning),
        "answered": isinstance(reply, str),
    }


def _line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {text[:160]}"


def _child(name: str, folder: str, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    pipe.send(attempt(name, Path(folder)))


def run(name: str, seconds: float) -> dict[str, Any]:
    """One architecture in a process of its own, ended after so many seconds."""
    context = multiprocessing.get_context("fork")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(name, folder, theirs))
        child.start()
        theirs.close()
        row = {"name": name, "result": "fails", "why": "it died or took too long"}
        if ours.poll(seconds):
            with contextlib.suppress(EOFError):
                row = ours.recv()
        child.kill()
        child.join()
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


def summary(rows: list[dict[str, Any]], every: list[str]) -> dict[str, Any]:
    counts = Counter(row["result"] for row in rows)
    order = {name: at for at, name in enumerate(every)}
    rows = sorted(rows, key=lambda row: order.get(row["name"], len(order)))
    return {"tried": len(rows), "of": len(every), "counts": dict(counts), "architectures": rows}


def main() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="model types; default all")
    parser.add_argument("--results", type=Path, help="a file of rows, which is added to")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one model")
    options = parser.parse_args()
    for needed in ("peft", "transformers.generation", *OURS):  # once, not in every child
        importlib.import_module(needed)
    every = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    rows: list[dict[str, Any]] = []
    if options.results and options.results.is_file():
        rows = json.loads(options.results.read_text("utf-8"))["architectures"]
    known = {row["name"] for row in rows}
    for name in options.names or [name for name in every if name not in known]:
        rows = [row for row in rows if row["name"] != name]
        rows.append(run(name, options.seconds))
        print(json.dumps(rows[-1]), flush=True)
        if options.results:
            text = json.dumps(summary(rows, every), indent=1) + "\n"
            options.results.write_text(text, encoding="utf-8")
    print(json.dumps(summary(rows, every)))


if __name__ == "__main__":
    main()
