"""A sentence encoder, a classifier of pairs and a causal language model, tiny and with random weights, on disk."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from pipelines.rethink.cli import main

CONFIG = "rethinking: {retrieval: hybrid, top: 3, crossing: {folds: 2, repeats: 1, bootstrap: 50}}\n"
SPELT = (
    "[PAD] [UNK] [CLS] [SEP] the a cat dog sat on mat is not yes no answer so . , ? : bird can fly sleeps red blue "
    "river 1 2 3 born in of was question does"
)
WORDS = SPELT.split()


def tokenizer_of(folder):
    vocabulary = {word: at for at, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)


def bert(**extra):
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
        **extra,
    )


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    BertModel(bert()).save_pretrained(folder)
    tokenizer_of(folder)
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """Return a maker of classifiers whose classes stand in an order of choice, the weights moved alike."""

    def make(order, names=None):
        folder = tmp_path_factory.mktemp("classifier")
        torch.manual_seed(1)
        said = names or ["entailment", "neutral", "contradiction"]
        model = BertForSequenceClassification(
            bert(num_labels=3, id2label={at: said[own] for at, own in enumerate(order)})
        )
        with torch.no_grad():
            model.classifier.weight.copy_(model.classifier.weight[list(order)].clone())
            model.classifier.bias.copy_(torch.tensor([0.3, 0.0, -0.3])[list(order)])
        model.save_pretrained(folder)
        tokenizer_of(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "tiny"
    torch.manual_seed(2)
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=1024, **ends)
    ).save_pretrained(folder)
    tokenizer_of(folder)
    return folder


QUESTIONS = [
    {
        "qid": "q1",
        "question": "Can the cat sit on the mat?",
        "answer": True,
        "facts": ["The cat sat on the mat.", "A mat is red."],
    },
    {"qid": "q2", "question": "Does the dog fly?", "answer": False, "facts": ["The dog sleeps.", "A dog can not fly."]},
    {
        "qid": "q3",
        "question": "Is the river blue?",
        "answer": True,
        "facts": ["The river is blue.", "The cat sat on the mat."],
    },
]
CHAINS = {
    "q1": [
        "The cat sat on the mat. So the answer is yes.",
        "Q1. Is the mat red?\nThe mat is red.\nFinal answer: Can it?\nThe answer is no.",
    ],
    "q2": [
        "A dog sleeps. Thus, no. So the answer is no.",
        "Q1. Can a dog fly?\nNo, a dog can not fly.\nFinal answer: Does it?\nIt depends.",
    ],
    "q3": [
        "A river is blue. So the answer is yes.",
        "Q1. What is blue?\nThe river is blue.\nFinal answer: Is it?\nThe answer is yes.",
    ],
}


def write_files(folder, times=1, *, answers=True):
    """Write questions with facts, and chains of two sources; `times` copies them under other ids and words."""
    questions, chains = [], []
    for copy in range(times):
        for own in QUESTIONS:
            name = f"{own['qid']}-{copy}"
            row = own | {"qid": name, "question": f"{own['question']} ({copy})"}
            questions.append(row if answers else {key: row[key] for key in ("qid", "question", "facts")})
            for prompt, text in zip(("COT", "LtM"), CHAINS[own["qid"]], strict=True):
                chains.append({"qid": name, "model": "m", "prompt": prompt, "completion": text})
    (folder / "questions.json").write_text(json.dumps(questions))
    (folder / "chains.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chains))
    return folder / "questions.json", folder / "chains.jsonl"


@pytest.fixture
def files(tmp_path):
    """Return a maker of questions and chains as files."""
    return lambda times=1, **extra: write_files(tmp_path, times, **extra)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, encoder_folder):
    """Return what the verb leaves of labelled questions; the configuration and what was given stand beside it."""
    folder = tmp_path_factory.mktemp("rethought")
    questions, chains = write_files(folder, 4)
    (folder / "c.yaml").write_text(CONFIG)
    words = ["text", "--questions", questions, "--chains", chains, "--facts", questions, "--output", folder / "fitted"]
    assert main([*map(str, words), "--encoder", str(encoder_folder), "--config", str(folder / "c.yaml")]) == 0
    return folder / "fitted"
