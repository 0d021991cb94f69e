#!/usr/bin/env python3
"""Our tokenizers and Hugging Face's or SentencePiece in turn on one core: peer.py PROGRAM TOKENIZER... --texts NAME=FILE... [--rounds 5]

PROGRAM is tokenize_text, a TOKENIZER a .gguf file (whose vocabulary PROGRAM writes as a tokenizer.json or SentencePiece .model for
the peer), a tokenizer.json or a .model. A text is cut into documents of about 16 KB at line ends, or where it has zero bytes
there. MB/s of processor time, medians; ours has not seen the text before. The peer is encode_batch_fast, the fastest call of
Hugging Face's tokenizers, or sentencepiece's encode.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402


def documents_of(path):
    data = pathlib.Path(path).read_bytes()
    if b"\0" in data:
        return data.split(b"\0")
    documents, part = [], b""
    for line in data.splitlines(keepends=True):
        part += line
        if len(part) >= 16384:
            documents.append(part)
            part = b""
    return documents + [part]


def ours(program, tokenizer, path):
    shown = subprocess.run([program, tokenizer, "--repeat", "1", path], check=True, capture_output=True, text=True).stdout
    return float(re.search(r"([\d.]+) MB/s", shown)[1])


def opened(path):
    data = pathlib.Path(path).read_bytes()
    if data[:1] == b"{":
        tokenizer = Tokenizer.from_file(path)
        return lambda documents: tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    import sentencepiece
    library = sentencepiece.SentencePieceProcessor(model_proto=data)
    return lambda documents: [library.encode(document) for document in documents]


def theirs(encode, documents):
    started = time.process_time()
    encode(documents)
    return sum(len(text.encode()) for text in documents) / 1e6 / (time.process_time() - started)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--texts", nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| tokenizer | text | ours, MB/s | peer, MB/s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.tokenizers:
            exported = f"{folder}/tokenizer" if name.endswith(".gguf") else name
            if exported != name:
                subprocess.run([arguments.program, name, "--export", exported], check=True, stdout=subprocess.DEVNULL)
            peer = opened(exported)
            for text in arguments.texts:
                label, path = text.split("=", 1)
                documents = documents_of(path)
                pathlib.Path(folder, "text").write_bytes(b"\0".join(documents))
                decoded = [document.decode() for document in documents]
                speeds = [(ours(arguments.program, name, f"{folder}/text"), theirs(peer, decoded)) for _ in range(arguments.rounds)]
                mine, other = (statistics.median(column) for column in zip(*speeds))
                print(f"| {pathlib.Path(name).stem.removeprefix('ggml-vocab-')} | {label} | {mine:.0f} | {other:.1f} | "
                      f"{mine / other:.0f} |", flush=True)


main()
