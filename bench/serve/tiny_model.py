"""Writes a Hugging Face folder with a tiny random model, under which a server's HTTP is what takes time: tiny_model.py OUT TEXT…

A LLaMA of one layer and 32 columns, with a tokenizer of 512 tokens trained on the texts. Needs the PyPI packages
torch, transformers and tokenizers.
"""

import sys

import tokenizers
import torch
import transformers

out, texts = sys.argv[1], sys.argv[2:]
tokenizer = tokenizers.ByteLevelBPETokenizer()
tokenizer.train(texts, vocab_size=512, special_tokens=["<|endoftext|>"], show_progress=False)
torch.manual_seed(1)
config = transformers.LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
    vocab_size=512, max_position_embeddings=2048, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
)
transformers.LlamaForCausalLM(config).save_pretrained(out)
template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>", chat_template=template
).save_pretrained(out)
