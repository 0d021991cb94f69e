#!/usr/bin/env python3
"""Every id of our SentencePiece encoder against the library's: compare_sentencepiece.py PROGRAM CORPUS MODEL...

PROGRAM is bench/text/tokenize_text of a build, CORPUS what corpus.py made, a MODEL a .model file, or a .gguf vocabulary that
PROGRAM writes as one. Documents that hold a control piece are left out: ours takes it for the token, as transformers does.
"""
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import sentencepiece


def compare(program, model, corpus):
    with tempfile.TemporaryDirectory() as folder:
        ids_path, exported = f"{folder}/ids", pathlib.Path(folder, "exported.model")
        subprocess.run([program, model, "--ids", ids_path, "--export", exported, "--repeat", "1", corpus], check=True)
        ours = numpy.fromfile(ids_path, dtype=numpy.int32)
        library = sentencepiece.SentencePieceProcessor(str(exported if model.endswith(".gguf") else model))
    control = [library.id_to_piece(id) for id in range(library.get_piece_size()) if library.is_control(id)]
    documents = [text.decode() for text in pathlib.Path(corpus).read_bytes().split(b"\0")]
    ends = numpy.flatnonzero(ours == -1)
    assert len(ends) == len(documents), (len(ends), len(documents))
    started, begin, wrong, compared = time.time(), 0, 0, 0
    for text, end in zip(documents, ends):
        mine = ours[begin:end]
        begin = end + 1
        if any(piece in text for piece in control):
            continue
        expected = numpy.array(library.encode(text), dtype=numpy.int32)
        compared += len(mine)
        if numpy.array_equal(mine, expected):
            continue
        wrong += 1
        if wrong <= 3:
            same = min(len(mine), len(expected))
            at = next((i for i in range(same) if mine[i] != expected[i]), same)
            print(f"differs at id {at} of {text[:60]!r}\n  ours   {[library.id_to_piece(int(i)) for i in mine[at - 3:at + 8]]}"
                  f"\n  theirs {[library.id_to_piece(int(i)) for i in expected[at - 3:at + 8]]}")
    print(f"{pathlib.Path(model).name}: {compared} ids compared in {time.time() - started:.0f} s: {wrong} documents differ", flush=True)
    return wrong


def main():
    program, corpus, *models = sys.argv[1:]
    sys.exit(sum(compare(program, model, corpus) for model in models) != 0)


main()
