#!/usr/bin/env python3
"""SentencePiece models of every kind: sentencepiece_models.py OUT [--vocab N] TEXT...

Each option of the format that changes ids is met by some model of OUT: trained on the texts (zero bytes or lines part them), or,
for what no trainer writes, a trained one changed.
"""
import argparse
import io
import pathlib
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

USER = ["<user>", "the", "▁▁", "  x", "\t", "ab", "abc", "é", "🙂", "北京", "\u00a0", "no. 1"]
KINDS = {
    # as LLaMA-2, Mistral
    "bpe": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    # as T5
    "unigram": dict(model_type="unigram", normalization_rule_name="nmt_nfkc"),
    # as Gemma
    "bpe_user": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                     add_dummy_prefix=False, split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=USER),
    "bpe_nfkc": dict(model_type="bpe", normalization_rule_name="nfkc", split_by_whitespace=False, user_defined_symbols=USER),
    "bpe_suffix": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="nfkc_cf", treat_whitespace_as_suffix=True),
    "unigram_user": dict(model_type="unigram", byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=False,
                         remove_extra_whitespaces=False, split_by_whitespace=False, user_defined_symbols=USER),
    "unigram_suffix": dict(model_type="unigram", byte_fallback=True, normalization_rule_name="nmt_nfkc_cf",
                           treat_whitespace_as_suffix=True, user_defined_symbols=USER[2:]),
    "char": dict(model_type="char", normalization_rule_name="nmt_nfkc"),
}


def train(texts, vocab, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=out, vocab_size=vocab, hard_vocab_limit=options["model_type"] != "unigram",
        num_threads=1, minloglevel=2, max_sentence_length=1 << 20, **dict(character_coverage=0.998) | options)
    return out.getvalue()


def changed(model, change):
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    change(proto, random.Random(5))
    return proto.SerializeToString()


def unused(proto, rng):
    """A third of the pieces, short and long, are not used; some scores are equal."""
    for piece in proto.pieces:
        if piece.type == piece.NORMAL:
            if rng.random() < 1 / 3:
                piece.type = piece.UNUSED
            piece.score = round(piece.score / 8) * 8


def unescaped(proto, rng):
    proto.normalizer_spec.escape_whitespaces = False
    for piece in proto.pieces:
        if piece.type == piece.NORMAL and rng.random() < 1 / 2 and piece.piece != "▁":
            piece.piece = piece.piece.replace("▁", " ")
    seen = set()
    for piece in proto.pieces:  # "▁a" and " a" may have become one
        if piece.piece in seen:
            piece.piece = f"<again {len(seen)} {piece.piece}>"
        seen.add(piece.piece)


def all_models(texts, vocab, **common):
    models = {name: train(texts, vocab, **options | common) for name, options in KINDS.items()}
    for kind in ("bpe", "unigram"):
        models[f"{kind}_unused"] = changed(models[kind], unused)
        models[f"{kind}_unescaped"] = changed(models[kind], unescaped)
    return models


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("texts", nargs="+")
    arguments = parser.parse_args()
    texts = []
    for path in arguments.texts:
        for document in pathlib.Path(path).read_bytes().decode("utf-8", "ignore").split("\0"):
            texts += [line for line in document.split("\n") if line]
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, model in all_models(texts, arguments.vocab).items():
        (out / f"{name}.model").write_bytes(model)


if __name__ == "__main__":
    main()
