"""Tiny models with random weights, and a tokenizer of a few words: made here, so that nothing is downloaded."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Final

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

WORDS: Final = "hello world how are you one two three four five six weather paris sunny user assistant system brief"
TEMPLATE: Final = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
SIZES: Final = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@cache
def make_tokenizer() -> Any:
    """Return a tokenizer that knows WORDS; each word is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS.split()]
    own = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=own, padding_side="left", **special)
    made.chat_template = TEMPLATE
    return made


def _make_config(cls: Any, **more: Any) -> Any:
    ids = {"vocab_size": len(make_tokenizer()), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return cls(**ids, **SIZES, max_position_embeddings=128, **more)


@cache
def make_model() -> Any:
    """Return a model that goes on with a text; the same each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = _make_config(LlamaConfig, num_key_value_heads=2, head_dim=32, _name_or_path="tiny")
    model = LlamaForCausalLM(config).eval()
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, 2
    return model


@cache
def make_translator() -> Any:
    """Return a model with an encoder and a decoder."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "vocab_size": len(make_tokenizer())}
    config = T5Config(**ids, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, _name_or_path="tiny-t5")
    return T5ForConditionalGeneration(config).eval()


@cache
def make_reader(head: str) -> Any:
    """Return a model that reads a text: ``BertModel`` for vectors, or one with a head for a task."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = _make_config(transformers.BertConfig, _name_or_path="tiny-bert")
    return getattr(transformers, head)(config).eval()


def save_model(folder: Path) -> str:
    """Save a model that goes on with a text, and its tokenizer; return their folder."""
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)
