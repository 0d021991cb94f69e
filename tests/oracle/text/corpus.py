#!/usr/bin/env python3
"""Text to compare tokenizers on: corpus.py OUT [--megabytes N] [FOLDER|FILE...]

OUT holds documents parted by zero bytes, in a fixed pseudorandom order: the real texts (every UTF-8 file under the given
folders), then generated ones up to N megabytes (default 110): words of each of the scripts below, any code points, and
characters between which the pre-tokenizers' expressions decide.

Real texts come first in the count of bytes: `--real` megabytes of them at most (default 70). fetch.sh gets those of the
recorded run: Debian's iso-codes (.mo files) and installation-guide, PyPI's Django (code, and translations
into some 100 languages).
"""
import argparse
import pathlib
import random
import unicodedata
from collections import Counter

from corpus_parts import SCRIPTS, any_points, deciding, words_of


def real(paths):
    for path in paths:
        path = pathlib.Path(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file() or file.is_symlink() or file.stat().st_size > 20_000_000:
                continue
            text = file.read_bytes()
            if file.suffix == ".mo":  # messages between zero bytes, after a binary head
                text = b"\n".join(text[28:].split(b"\0"))
                text = text.decode("utf-8", "ignore").encode()
            try:
                text.decode("utf-8")
            except UnicodeDecodeError:
                continue
            text = text.replace(b"\0", b"")
            for start in range(0, len(text), 65536):
                yield text[start:start + 65536].decode("utf-8", "ignore").encode()


def scripts_of(documents):
    """Scripts by the first word of a letter's name, with a thousand letters each or more."""
    points = Counter()
    for document in documents:
        points.update(document.decode())
    letters = Counter()
    for point, count in points.items():
        if unicodedata.category(point).startswith("L"):
            letters[unicodedata.name(point, "?").split()[0]] += count
    return [script for script, count in letters.most_common() if count >= 1000 and script not in ("?", "FULLWIDTH", "MODIFIER")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--megabytes", type=float, default=110)
    parser.add_argument("--real", type=float, default=70)
    parser.add_argument("paths", nargs="*")
    arguments = parser.parse_args()
    rng = random.Random(7)
    documents = [text for text in real(arguments.paths) if text]
    rng.shuffle(documents)
    size, kept = 0, []
    for text in documents:
        if size + len(text) <= arguments.real * 1e6:
            kept.append(text)
            size += len(text)
    documents = kept
    scripts = scripts_of(documents)
    print(f"real: {size / 1e6:.1f} MB in {len(scripts)} scripts: {' '.join(scripts)}")
    scripts = list(SCRIPTS.values())
    rng = random.Random(8)
    turn = 0
    while size < arguments.megabytes * 1e6:
        turn += 1
        makers = [lambda: words_of(rng, scripts[turn % len(scripts)])] * 6 + [lambda: any_points(rng), lambda: deciding(rng)]
        documents.append(makers[turn % 8]().encode())
        size += len(documents[-1])
    pathlib.Path(arguments.out).write_bytes(b"\0".join(documents))
    print(f"all: {size / 1e6:.1f} MB in {len(documents)} documents")


main()
