#!/usr/bin/env python3
"""Our ids against llama.cpp's own cases: check_cases.py PROGRAM VOCABULARY.gguf...

Beside each vocabulary lie .inp, texts parted by a line, and .out, a line of ids each. Qwen's texts that are not in normal form
C are left out: Hugging Face's tokenizer normalises them, as ours does, and llama.cpp does not.
"""
import pathlib
import subprocess
import sys
import tempfile
import unicodedata

import numpy


def main():
    program, *vocabularies = sys.argv[1:]
    wrong = 0
    for vocabulary in vocabularies:
        texts = pathlib.Path(f"{vocabulary}.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
        expected = [[int(id) for id in line.split()] for line in pathlib.Path(f"{vocabulary}.out").read_text().split("\n")]
        expected = expected[:len(texts)]
        with tempfile.TemporaryDirectory() as folder:
            text, ids = pathlib.Path(folder, "texts"), pathlib.Path(folder, "ids")
            text.write_bytes(b"\0".join(texts))
            subprocess.run([program, vocabulary, "--ids", ids, "--repeat", "1", text], check=True, stdout=subprocess.DEVNULL)
            flat = numpy.fromfile(ids, dtype=numpy.int32)
        ours = [part[:-1].tolist() for part in numpy.split(flat, numpy.flatnonzero(flat == -1) + 1) if len(part)]
        assert len(ours) == len(texts) == len(expected), (len(ours), len(texts), len(expected))
        normalises = "qwen" in pathlib.Path(vocabulary).name
        compared = [i for i in range(len(texts)) if not normalises or unicodedata.is_normalized("NFC", texts[i].decode())]
        differ = [i for i in compared if ours[i] != expected[i]]
        print(f"{pathlib.Path(vocabulary).name}: {len(compared)} of {len(texts)} cases of llama.cpp's compared, {len(differ)} differ")
        for i in differ[:5]:
            print(f"  {texts[i].decode()!r}\n  ours   {ours[i]}\n  theirs {expected[i]}")
        wrong += len(differ)
    sys.exit(wrong != 0)


main()
