"""Makes tests/golden/data from megatron-core itself: .bin/.idx pairs by its IndexedDatasetBuilder, and the indices and
samples that its BlendedMegatronDatasetBuilder makes of them.

    python -m venv venv && venv/bin/pip install numpy torch megatron-core==0.16.1
    venv/bin/python tests/oracle/data/make_golden.py [--random CASES --seed SEED --folder FOLDER]

Writes cases.json (read by src/data/megatron_parity_test.cc) and the pairs beside it; the same bytes every time. With
--random, as many cases that nobody chose, to another folder: the test reads them with FLAGSCALE_DATA_GOLDEN=FOLDER.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import tempfile

import numpy
import torch
from megatron.core.datasets.blended_dataset import BlendedDataset
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig, _build_document_index, _build_shuffle_index
from megatron.core.datasets import helpers
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
from megatron.core.datasets.utils import get_blend_from_list, normalize

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "data"
EOD = 0


class Tokenizer:
    vocab_size = 1000
    eod = EOD
    unique_identifiers = {"class": "Golden"}
    special_tokens_dict = {}

    def __init__(self, pad=None):
        if pad is not None:
            self.pad = pad


def write_pair(name, dtype, seed, documents, longest, sentences=1, multimodal=False, empty=()):
    """Documents of random length that end in EOD; `empty` documents have no sequence at all, as preprocess_data.py
    writes them."""
    random = numpy.random.RandomState(seed)
    builder = IndexedDatasetBuilder(str(GOLDEN / f"{name}.bin"), dtype=dtype, multimodal=multimodal)
    for d in range(documents):
        if d in empty:
            builder.add_document([], [], [] if multimodal else None)
            continue
        lengths = [int(random.randint(1, longest + 1)) for _ in range(1 + d % sentences)]
        ids = random.randint(1, Tokenizer.vocab_size, size=sum(lengths))
        ids[-1] = EOD
        modes = [int(i % 3) for i in range(len(lengths))] if multimodal else None
        builder.add_document(ids, lengths, modes)
    builder.finalize(str(GOLDEN / f"{name}.idx"))


def write_text(name, eod=256):
    """A JSONL file and what tools/preprocess_data.py --append-eod makes of it when ids are UTF-8 bytes."""
    texts = ["In the beginning", "", "naïve café ☕ 日本語", ["two", "", "pieces"], [], "tab\t\"quoted\"\nline", "x"]
    with open(GOLDEN / f"{name}.jsonl", "w", encoding="utf-8") as out:
        for i, text in enumerate(texts):
            out.write(json.dumps({"id": i, "text": text, "more": {"text": "no"}}, ensure_ascii=i % 2 == 0) + "\n")
    builder = IndexedDatasetBuilder(str(GOLDEN / f"{name}_text_document.bin"), dtype=numpy.uint16)
    for text in texts:
        ids, lengths = [], []
        for piece in text if isinstance(text, list) else [text]:
            piece_ids = list(piece.encode("utf-8"))
            if piece_ids:
                ids.extend(piece_ids)
                lengths.append(len(piece_ids))
        if ids:
            ids.append(eod)
            lengths[-1] += 1
        builder.add_document(ids, lengths)
    builder.finalize(str(GOLDEN / f"{name}_text_document.idx"))


def fnv(array):
    """FNV-1a, 64 bits, over little-endian bytes."""
    value = 0xCBF29CE484222325
    for byte in numpy.ascontiguousarray(array).tobytes():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def describe(dataset):
    if dataset is None:
        return None
    if isinstance(dataset, BlendedDataset):
        return {
            "kind": "blend",
            "dataset": dataset.dataset_index.tolist(),
            "sample": dataset.dataset_sample_index.tolist(),
        }
    return {
        "kind": "gpt",
        "documents": dataset.document_index.tolist(),
        "starts": dataset.sample_index.reshape(-1).tolist(),
        "shuffle": dataset.shuffle_index.tolist(),
    }


def boundaries(attention_mask):
    """Where segments begin, from the mask itself: the first position each row may see."""
    starts = [int(torch.nonzero(~row)[0]) for row in attention_mask[0]]
    return sorted(set(starts)) + [len(starts)]


def samples_of(dataset, count):
    out = []
    for i in range(min(count, len(dataset))):
        s = dataset[i]
        out.append(
            {
                "tokens": s["tokens"].tolist(),
                "labels": s["labels"].tolist(),
                "loss_mask": [int(x) for x in s["loss_mask"]],
                "position_ids": s["position_ids"].tolist(),
                "boundaries": boundaries(s["attention_mask"]),
            }
        )
    return out


def case(name, *, data_path=None, per_split=None, split="969, 30, 1", seq=16, seed=1234, sizes=(None, None, None),
         drop_last=True, reset_position=False, reset_mask=False, eod_mask=False, pad=None, samples=2):
    with tempfile.TemporaryDirectory() as cache:
        config = GPTDatasetConfig(
            random_seed=seed,
            sequence_length=seq,
            blend=get_blend_from_list(data_path),
            blend_per_split=[get_blend_from_list(p) for p in per_split] if per_split else None,
            split=split if data_path else None,
            path_to_cache=None if not data_path else cache,
            tokenizer=Tokenizer(pad),
            reset_position_ids=reset_position,
            reset_attention_mask=reset_mask,
            eod_mask_loss=eod_mask,
            drop_last_partial_validation_sequence=drop_last,
            mid_level_dataset_surplus=0.005,
        )
        config.path_to_cache = cache
        torch_rank = torch.distributed.get_rank
        torch.distributed.get_rank = lambda *a: 0  # the builder asks even without a process group
        try:
            splits = BlendedMegatronDatasetBuilder(GPTDataset, list(sizes), lambda: True, config).build()
        finally:
            torch.distributed.get_rank = torch_rank
    return {
        "name": name,
        "data_path": data_path or [],
        "split_data_path": [p or [] for p in per_split] if per_split else [[], [], []],
        "split": split,
        "sequence_length": seq,
        "seed": seed,
        "sizes": list(sizes),
        "drop_last": drop_last,
        "reset_position_ids": reset_position,
        "reset_attention_mask": reset_mask,
        "eod_mask_loss": eod_mask,
        "pad": -1 if pad is None else pad,
        "splits": [describe(s) for s in splits],
        "samples": [samples_of(s, samples) if s is not None else [] for s in splits],
    }


def large_case(sequences, seq, samples, seed):
    """Too large to keep: checksums of the three indices."""
    random = numpy.random.RandomState(7)
    lengths = random.randint(1, 300, size=sequences).astype(numpy.int32)
    tokens = int(lengths.sum())
    epochs = max(1, -(-(samples * seq + 1) // tokens))
    before = ((epochs - 1) * tokens - 1) // seq
    separate = epochs > 1 and samples - before < int(0.80 * ((tokens - 1) // seq))
    state = numpy.random.RandomState(seed)
    documents = _build_document_index(numpy.arange(sequences, dtype=numpy.int32), epochs, state, separate)
    starts = helpers.build_sample_idx(lengths, documents, seq, epochs, tokens, True, True)
    total = starts.shape[0] - 1
    shuffle = _build_shuffle_index(before if separate else total, total, state)
    return {
        "sequences": sequences, "sequence_length": seq, "samples": samples, "seed": seed, "lengths_seed": 7,
        "epochs": epochs, "lengths": fnv(lengths), "documents": fnv(documents), "starts": fnv(starts),
        "shuffle": fnv(shuffle),
    }


def blending_case(weights, size):
    dataset, sample = numpy.zeros(size, dtype=numpy.int16), numpy.zeros(size, dtype=numpy.int64)
    helpers.build_blending_indices(dataset, sample, normalize(weights), len(weights), size, False)
    return {"weights": weights, "size": size, "normalized": normalize(weights), "dataset": fnv(dataset),
            "sample": fnv(sample)}


def stop(*_):
    raise TimeoutError


def random_cases(rng, count):
    signal.signal(signal.SIGALRM, stop)

    def blend():
        paths = rng.choices(["a", "b"], k=rng.choice([1, 1, 2, 3, 5]))
        weights = rng.random() < 0.5
        return [x for p in paths for x in ([str(round(rng.uniform(0.01, 9), rng.randint(0, 6)) or 1)] if weights else []) + [p]]

    def size():
        return rng.choice([None, 0, 1, rng.randint(1, 30), rng.randint(1, 400)])

    cases = []
    while len(cases) < count:
        apart = rng.random() < 0.3
        parts = [str(rng.choice([0, 1, 10, 98, 969, round(rng.uniform(0, 5), 2)])) for _ in range(rng.randint(1, 3))]
        settings = {
            "data_path": None if apart else blend(),
            "per_split": [rng.choice([None, blend(), blend()]) for _ in range(3)] if apart else None,
            "split": rng.choice([",", ", "]).join(parts),
            "seq": rng.choice([1, 2, 7, 16, 33, 64]),
            "seed": rng.choice([0, 1, 1234, rng.randrange(2**32)]),
            "sizes": (size(), size(), size()),
            "drop_last": rng.random() < 0.7,
            "reset_position": rng.random() < 0.3,
            "reset_mask": rng.random() < 0.3,
            "eod_mask": rng.random() < 0.3,
            "pad": rng.choice([None, None, 17]),
            "samples": rng.randint(1, 6),
        }
        signal.alarm(20)  # Megatron counts epochs for ever where a split's documents are empty
        try:
            made = case(json.dumps(settings), **settings)
            if any(s and (s.get("documents") or s.get("dataset")) for s in made["splits"]):  # else we refuse
                cases.append(made)
        except Exception as error:  # Megatron itself refuses, or trips over, what has no sample
            print("left out:", type(error).__name__, str(error)[:80])
        finally:
            signal.alarm(0)
    return cases


def write_random(folder, count, seed):
    global GOLDEN
    GOLDEN = folder.resolve()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    os.chdir(GOLDEN)
    rng = random.Random(seed)
    write_pair("a", numpy.uint16, seed, rng.randint(20, 120), rng.randint(4, 60), empty=rng.sample(range(20), 3))
    write_pair("b", numpy.int32, seed + 1, rng.randint(20, 60), rng.randint(4, 60), sentences=rng.randint(1, 4))
    result = {"cases": random_cases(rng, count), "large": [], "blending": []}
    (GOLDEN / "cases.json").write_text(json.dumps(result) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path)
    args = parser.parse_args()
    if args.random:
        return write_random(args.folder, args.random, args.seed)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    os.chdir(GOLDEN)
    write_pair("a", numpy.uint16, 1, 60, 30, empty=(0, 7, 59))
    write_pair("b", numpy.int32, 2, 23, 50, sentences=3)
    write_pair("c", numpy.int32, 3, 5, 9, sentences=2, multimodal=True, empty=(2,))
    write_text("lines")
    cases = [
        case("one epoch, default split", data_path=["a"]),
        case("one sequence, shares 98,2", data_path=["a"], split="98,2", seq=8, seed=7),
        case("epochs in one shuffle", data_path=["a"], split="100", seq=16, sizes=(140, 0, 0)),
        case("last epoch apart", data_path=["a"], split="90,10,0", seq=16, sizes=(75, 9, 0), seed=42),
        case("partial validation kept", data_path=["b"], split="60,40", seq=32, drop_last=False, samples=20),
        case("blend by weight", data_path=["0.3", "a", "0.7", "b"], split="80,20", sizes=(100, 30, 0), samples=6),
        case("one weighted", data_path=["2", "a"], split="1,1", sizes=(33, 8, 0)),
        case("blend by size", data_path=["a", "b", "a"], split="70,20,10", sizes=(50, None, 4)),
        case("a split each", per_split=[["a", "b", "a"], ["b"], None], sizes=(None, 20, 0), seed=99),
        case("weighted splits", per_split=[["1", "a", "3", "b"], ["5", "a"], ["b"]], sizes=(64, 10, 5)),
        case("reset positions", data_path=["b"], split="1", reset_position=True, eod_mask=True, samples=8),
        case("reset attention", data_path=["a"], split="1", seq=64, reset_position=True, reset_mask=True, samples=6),
        case("reset attention, positions run on", data_path=["a"], split="1", seq=64, reset_mask=True, samples=4),
        case("padding token", data_path=["b"], split="1,1", seq=32, drop_last=False, eod_mask=True, pad=17, samples=20),
        case("seed at the end of its range", data_path=["a"], split="1", seed=4294967295),
    ]
    random = numpy.random.RandomState(11)
    result = {
        "cases": cases,
        "large": [large_case(70000, 128, 20000, 1234), large_case(70000, 128, 200000, 5), large_case(1, 64, 500, 3)],
        "blending": [blending_case(random.rand(n).tolist(), 2000) for n in (1, 2, 7, 8, 9, 31, 130, 300)]
        + [blending_case([0.0, 1.0, 1.0], 100), blending_case([969.0, 30.0, 1.0], 5000)],
    }
    (GOLDEN / "cases.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
