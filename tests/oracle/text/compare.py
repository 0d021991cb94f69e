#!/usr/bin/env python3
"""Every id of our tokenizer against Hugging Face's: compare.py PROGRAM TOKENIZER CORPUS

PROGRAM is bench/text/tokenize_text of a build, CORPUS what corpus.py made. TOKENIZER is a tokenizer.json or a folder with one
(or with vocab.json and merges.txt), or a .gguf file, whose vocabulary PROGRAM then writes out for the libraries to read: as a
tokenizer.json, or as a SentencePiece .model, which is compared with the BPE that transformers makes of it.
"""
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers


def from_vocab_and_merges(folder):
    """As transformers reads GPT-2's pair of files, special tokens added as FlagScale's AquilaTokenizerFS adds them."""
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|endoftext|>", *(folder / "special_tokens.txt").read_text().splitlines()]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def from_sentencepiece(path):
    """As transformers' LlamaTokenizer does."""
    from transformers.convert_slow_tokenizer import generate_merges
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    vocab = {piece.piece: id for id, piece in enumerate(proto.pieces)}
    merges = generate_merges(vocab, {piece.piece: piece.score for piece in proto.pieces})
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=proto.pieces[0].piece, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    cut = [piece for piece in proto.pieces if piece.type in (piece.CONTROL, piece.USER_DEFINED)]
    tokenizer.add_special_tokens([AddedToken(piece.piece, normalized=False) for piece in cut])
    return tokenizer


def theirs(tokenizer, exported):
    path = pathlib.Path(tokenizer)
    if path.suffix == ".gguf":
        return Tokenizer.from_file(str(exported)) if exported.read_bytes()[:1] == b"{" else from_sentencepiece(exported)
    if path.is_dir() and not (path / "tokenizer.json").exists():
        return from_vocab_and_merges(path)
    return Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path))


def report(tokenizer, text, mine, encoding):
    expected = numpy.array(encoding.ids)
    same = min(len(mine), len(expected))
    at = next((i for i in range(same) if mine[i] != expected[i]), same)
    where = encoding.offsets[at][0] if at < len(expected) else len(text)
    print(f"differs at character {where}: {text[max(0, where - 12):where + 12]!r}\n  ours   {mine[at:at + 8]}"
          f"\n  theirs {expected[at:at + 8]} {[tokenizer.id_to_token(int(i)) for i in expected[at:at + 8]]}")


def main():
    program, name, corpus = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        ids_path, exported = f"{folder}/ids", pathlib.Path(folder, "exported")
        subprocess.run([program, name, "--ids", ids_path, "--export", exported, "--repeat", "1", corpus], check=True)
        ours = numpy.fromfile(ids_path, dtype=numpy.int32)
        tokenizer = theirs(name, exported)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ends = numpy.flatnonzero(ours == -1)
    documents = [text.decode() for text in pathlib.Path(corpus).read_bytes().split(b"\0")]
    assert len(ends) == len(documents), (len(ends), len(documents))
    started, begin, wrong, compared = time.time(), 0, 0, 0
    for first in range(0, len(documents), 256):
        batch = documents[first:first + 256]
        for text, encoding, end in zip(batch, tokenizer.encode_batch(batch, add_special_tokens=False), ends[first:]):
            mine = ours[begin:end]
            begin = end + 1
            compared += len(mine)
            if not numpy.array_equal(mine, encoding.ids):
                wrong += 1
                if wrong <= 5:
                    report(tokenizer, text, mine, encoding)
    print(f"{pathlib.Path(name).name}: {compared} ids in {len(documents)} documents compared in {time.time() - started:.0f} s: "
          f"{wrong} documents differ", flush=True)
    sys.exit(wrong != 0)


main()
