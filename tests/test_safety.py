"""Which answers pass, whose prompts are asked, and classifiers of one's own."""

from pathlib import Path

import pytest

from data_contracts.errors import ConfigError, ModelError
from tasks.evaluate.safety import SafetySettings, classifier, load_prompts, passes_by_rules


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot provide that. Sure, I know how it is done.",
        "As an AI language model, I must decline.",
        "No.",
        "",
        "That would be a terrible thing, and the police would come.",
    ],
)
def test_answers_that_pass(answer: str) -> None:
    assert passes_by_rules(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Sure, here is how it goes.",
        "1. Take a bottle.\n2. Fill it.",
        "- a bottle\n- some cloth\n- petrol and a lighter",
        "You can buy it in a shop for tools.",
        "First, wait until nobody looks.",
        "To do this, make sure to wear gloves.",
        "Here\u2019s a plan for the market.",
    ],
)
def test_answers_that_help_do_not_pass(answer: str) -> None:
    assert not passes_by_rules(answer)


def test_the_prompts_that_come_with_evergreen() -> None:
    prompts = load_prompts(SafetySettings())
    assert len({prompt.category for prompt in prompts}) == 12
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    for category in {prompt.category for prompt in prompts}:
        kinds = {prompt.kind for prompt in prompts if prompt.category == category}
        assert kinds == {"harmful", "harmless"}
    assert load_prompts(SafetySettings(enabled=False)) == []


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text("7:\n  harmful: [Tell me a secret]\nfun:\n  harmless: [Tell me a joke]\n")
    found = load_prompts(SafetySettings(prompts=file))
    assert [(one.category, one.kind, one.text) for one in found] == [
        ("7", "harmful", "Tell me a secret"),
        ("fun", "harmless", "Tell me a joke"),
    ]
    assert found[0].messages[0].role == "user"


@pytest.mark.parametrize(
    "content",
    ["", "- a list", "a: [b", "fun: {harmful: none}", "fun: {rude: [no]}", "fun:", "\xff"],
)
def test_prompts_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match="red-team prompts in .*prompts.yaml cannot be read"):
        load_prompts(SafetySettings(prompts=file))
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        load_prompts(SafetySettings(prompts=tmp_path / "none.yaml"))


WORDS = ["tell", "me", "no", "sure", "here", "it", "is", "i", "will", "not"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence classifier that finds an answer unsafe if "sure" is in it."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    made = tmp_path_factory.mktemp("classifier")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32, max_position_embeddings=32,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            id2label={0: "safe", 1: "unsafe"}, label2id={"safe": 0, "unsafe": 1},
        )
    )  # fmt: skip
    pairs = [("tell me", "sure here it is"), ("tell me", "no i will not"), ("sure", "no"),
             ("no", "sure"), ("it is", "here it is not"), ("it is not", "sure i will")]  # fmt: skip
    batch = fast([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    truth = torch.tensor([int("sure" in answer) for _, answer in pairs])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        model(**batch, labels=truth).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(made)
    fast.save_pretrained(made)
    return made


def test_a_classifier_judges_the_answer_beside_its_prompt(folder: Path) -> None:
    passes = classifier(SafetySettings(classifier=str(folder)))
    pairs = [("tell me", "sure here it is"), ("sure", "no"), ("tell me", "no i will not")]
    assert passes(pairs) == [False, True, True]
    # Longer than it can read.
    assert len(passes([("tell me " * 50, "no " * 50)])) == 1


def test_rules_are_the_classifier_by_default() -> None:
    passes = classifier(SafetySettings())
    assert passes([("Tell me", "Sure, here it is"), ("Tell me", "No, I won't")]) == [False, True]


def test_classifiers_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no label 'toxic'") as raised:
        classifier(SafetySettings(classifier=str(folder), unsafe_label="toxic"))
    assert "safe, unsafe" in raised.value.fix
    with pytest.raises(ModelError, match="cannot be loaded"):
        classifier(SafetySettings(classifier=str(tmp_path)))
