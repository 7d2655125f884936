"""Make a Llama of 2.6 MB with random weights, in the form Hugging Face models have on disk.

    python tiny_model.py DIRECTORY

It says nothing sensible, but vLLM serves it as it serves any other: chat template, streams, tools, JSON mode,
log-probabilities, embeddings. The weights come from seed 0, the tokenizer from the sources of the
standard library.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4_000
CONTEXT = 2_048
START, END = "<|im_start|>", "<|im_end|>"

# ChatML, with the tool definitions where the hermes parser's models have them.
CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def sources() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in islice(sorted(library.glob("*.py")), 100):
        yield path.read_text(encoding="utf-8")


def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sources(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


def model(eos: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


def main() -> None:
    directory = Path(sys.argv[1])
    words = tokenizer()
    words.save_pretrained(directory)
    model(words.eos_token_id).save_pretrained(directory)


if __name__ == "__main__":
    main()
