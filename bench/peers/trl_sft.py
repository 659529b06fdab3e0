"""TRL's SFTTrainer on the conversations of bench.train: WORK.json -> speed, and an adapter.

The recipe is the benchmark's; what it does not name is TRL's default.
"""

import json
import sys
import time
from pathlib import Path

import psutil
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

# The template's own text, and where the assistant speaks, which TRL has to be told.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant'"
    " %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}"
    "{{ message['content'] }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

work = json.loads(Path(sys.argv[1]).read_text("utf-8"))
recipe = work["recipe"]
tokenizer = AutoTokenizer.from_pretrained(work["base"])
talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
own = tokenizer.apply_chat_template(talk, tokenize=False)
tokenizer.chat_template = TEMPLATE
assert tokenizer.apply_chat_template(talk, tokenize=False) == own, "the template's text differs"


class Clock(TrainerCallback):
    """Seconds and tokens of the steps, without those of the start."""

    def __init__(self):
        self.steps = 0
        self.batches = []  # tokens of each; the loader is a batch ahead of the steps
        self.first = self.last = None
        self.half = (0, None)  # steps, and when they had ended

    def on_step_begin(self, *_, **__):
        if self.first is None:
            self.first, self.first_time = time.perf_counter(), time.time()

    def on_step_end(self, *_, **__):
        self.steps += 1
        self.last = time.perf_counter()
        if self.steps == work["steps"] // 2:
            self.half = (self.steps, self.last)

    def on_train_end(self, *_, **__):
        if torch.cuda.is_available():  # whose work may end after the call that asks for it
            torch.cuda.synchronize()
            self.last = time.perf_counter()


clock = Clock()
trainer = SFTTrainer(
    model=work["base"],
    args=SFTConfig(
        output_dir=work["output"],
        max_steps=work["steps"],
        per_device_train_batch_size=work["at_once"],
        gradient_accumulation_steps=recipe["batch_size"] // work["at_once"],
        learning_rate=recipe["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=recipe["warmup_ratio"],  # below 1 it is a share
        max_length=recipe["max_length"],
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        model_init_kwargs={"dtype": "bfloat16"},
        assistant_only_loss=True,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        seed=recipe["seed"],
        **work["options"],
    ),
    train_dataset=load_dataset("json", data_files=work["data"], split="train"),
    processing_class=tokenizer,
    peft_config=LoraConfig(
        r=recipe["lora_rank"],
        lora_alpha=recipe["lora_alpha"],
        target_modules=recipe["target_modules"],
        task_type="CAUSAL_LM",
    ),
    callbacks=[clock],
)
collate = trainer.data_collator


def counting(features):
    batch = collate(features)
    mask = batch.get("attention_mask")
    clock.batches.append(int(batch["input_ids"].numel() if mask is None else mask.sum()))
    return batch


trainer.data_collator = counting
trainer.train()
trainer.save_model(work["output"])


def tokens(first, last):
    """Of the steps from `first` on, up to `last`."""
    each = trainer.args.gradient_accumulation_steps
    return sum(clock.batches[first * each : last * each])


print(
    json.dumps(
        {
            "tokens": tokens(0, clock.steps),
            "later_tokens": tokens(clock.half[0], clock.steps),
            "later_seconds": clock.last - clock.half[1],
            "steps": clock.steps,
            "seconds": clock.last - clock.first,
            "start_seconds": clock.first_time - psutil.Process().create_time(),
            "threads": torch.get_num_threads(),
            "peak_mb": torch.cuda.max_memory_allocated() // 2**20
            if torch.cuda.is_available()
            else psutil.Process().memory_info().rss // 2**20,
        }
    )
)
