"""Makes tests/golden/op/fp8.txt: how PyTorch's float8 types read and round numbers.

    python tests/oracle/op/make_fp8.py

256 lines "value VALUE_E4M3 VALUE_E5M2", what each code stands for as the bits of a float (NaN: nan), then lines
"round FLOAT E4M3 E5M2": every code's value, what lies halfway between neighbours, the floats beside those, and numbers of
all sizes; clamped to the largest number of the format, since PyTorch does not saturate.
"""
import pathlib

import numpy
import torch

TYPES = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def bits(values):
    return ["nan" if numpy.isnan(v) else f"{b:08x}" for v, b in zip(values, values.view(numpy.uint32))]


def values_of(dtype):
    return torch.arange(256, dtype=torch.uint8).view(dtype).to(torch.float32).numpy()


def interesting():
    found = set()
    for dtype in TYPES:
        known = numpy.unique(numpy.abs([v for v in values_of(dtype) if numpy.isfinite(v)])).astype(numpy.float32)
        for value in numpy.concatenate([known, (known[1:] + known[:-1]) / 2]):
            found.update([value, numpy.nextafter(value, numpy.float32(0)), numpy.nextafter(value, numpy.float32(1e6))])
    generator = numpy.random.default_rng(8)
    found.update((2.0 ** generator.uniform(-30, 20, 300)).astype(numpy.float32))
    signed = [v if i % 2 else -v for i, v in enumerate(sorted(found))]
    return numpy.array(signed, dtype=numpy.float32)


def main():
    lines = [f"value {a} {b}" for a, b in zip(*(bits(values_of(dtype)) for dtype in TYPES))]
    numbers = interesting()
    codes = [torch.tensor(numbers).clamp(-largest, largest).to(dtype).view(torch.uint8).tolist()
             for dtype, largest in TYPES.items()]
    lines += [f"round {n} {a:02x} {b:02x}" for n, a, b in zip(bits(numbers), *codes)]
    path = pathlib.Path(__file__).resolve().parents[2] / "golden" / "op" / "fp8.txt"
    path.write_text("\n".join(lines) + "\n")


main()
