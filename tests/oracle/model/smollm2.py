"""SmolLM2-135M-Instruct from its GGUF file: the model dequantised to fp32 by transformers, and its tokenizer."""
import pathlib

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL = 3  # of tokenizer.ggml.token_type


def load_model(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    assert model.config.tie_word_embeddings and model.config.num_key_value_heads == 3
    assert model.config.rope_parameters["rope_theta"] == 100000.0
    return model.eval()


def load_tokenizer(folder):
    """Put together here: transformers' own reading of the file loses that SmolLM's pre-tokenizer takes
    digits one by one before GPT-2's rule."""
    fields = GGUFReader(pathlib.Path(folder) / FILE).fields
    tokens, types, merges = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    vocabulary = {t: i for i, t in enumerate(tokens)}
    bpe = Tokenizer(models.BPE(vocabulary, [tuple(m.split(" ")) for m in merges]))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == CONTROL])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        chat_template=fields["tokenizer.chat_template"].contents(),
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"].contents()],
    )
