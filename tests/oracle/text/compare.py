#!/usr/bin/env python3
"""Every id of our tokenizer against Hugging Face's: compare.py PROGRAM TOKENIZER CORPUS [--hf TOKENIZER.json]

PROGRAM is bench/text/tokenize_text of a build, CORPUS what corpus.py made. TOKENIZER is a folder or tokenizer.json, or a
.gguf file, whose vocabulary is then written as a tokenizer.json for Hugging Face's library to read.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("tokenizer")
    parser.add_argument("corpus")
    parser.add_argument("--hf")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ids_path, json_path = f"{folder}/ids", f"{folder}/tokenizer.json"
        subprocess.run([arguments.program, arguments.tokenizer, "--ids", ids_path, "--json", json_path, "--repeat", "1",
                        arguments.corpus], check=True)
        ours = numpy.fromfile(ids_path, dtype=numpy.int32)
        if arguments.hf:
            json_path = arguments.hf
        elif not arguments.tokenizer.endswith(".gguf"):
            path = pathlib.Path(arguments.tokenizer)
            json_path = str(path / "tokenizer.json" if path.is_dir() else path)
        theirs = Tokenizer.from_file(json_path)
    theirs.no_truncation()
    theirs.no_padding()
    ends = numpy.flatnonzero(ours == -1)
    documents = [text.decode() for text in pathlib.Path(arguments.corpus).read_bytes().split(b"\0")]
    assert len(ends) == len(documents), (len(ends), len(documents))
    started, begin, wrong, compared = time.time(), 0, 0, 0
    for first in range(0, len(documents), 256):
        batch = documents[first:first + 256]
        for text, encoding, end in zip(batch, theirs.encode_batch(batch, add_special_tokens=False), ends[first:]):
            mine = ours[begin:end]
            begin = end + 1
            expected = numpy.array(encoding.ids, dtype=numpy.int32)
            compared += len(expected)
            if len(mine) == len(expected) and (mine == expected).all():
                continue
            wrong += 1
            if wrong <= 5:
                at = next((i for i, (a, b) in enumerate(zip(mine, expected)) if a != b), min(len(mine), len(expected)))
                where = encoding.offsets[at][0] if at < len(expected) else len(text)
                print(f"differs at character {where}: {text[max(0, where - 12):where + 12]!r}\n  ours   {mine[at:at + 8]}"
                      f"\n  theirs {expected[at:at + 8]} {[theirs.id_to_token(int(i)) for i in expected[at:at + 8]]}")
    print(f"{compared} ids in {len(documents)} documents compared in {time.time() - started:.0f} s: "
          f"{wrong} documents differ")
    sys.exit(wrong != 0)


main()
