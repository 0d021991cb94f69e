#!/usr/bin/env python3
"""Compares PROGRAM with hydra-core on random configurations.

    fuzz_compose.py PROGRAM [--cases N] [--seed S] [--kind KIND]
    fuzz_compose.py PROGRAM --examples FOLDER [--cases N] [--seed S]    configurations in FOLDER, overridden at random
"""
import argparse
import collections
import json
import math
import os
import pathlib
import random
import subprocess
import tempfile

from example_cases import groups, leaves, override
from oracle import show
from random_cases import KINDS, case, write_files


def same(a, b):
    if isinstance(a, dict) and "error" in a:
        return a == b
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b or (a != a and b != b) or math.isclose(a, b, rel_tol=1e-15)
    return a == b


def run(program, folder, name, overrides):
    p = subprocess.run([program, "config", "show", "--config-path", folder, "--config-name", name, "--flat", *overrides], capture_output=True, text=True, timeout=20)
    if p.returncode not in (0, 1, 2):
        return f"CRASH {p.returncode} {p.stderr}"
    return json.loads(p.stdout) if p.returncode == 0 else p.stderr


def difference(want, got):
    if isinstance(want, str) != isinstance(got, str) or (isinstance(got, str) and got.startswith("CRASH")):
        return f"want {json.dumps(want)[:400]}, got {json.dumps(got)[:400]}"
    if isinstance(want, str):
        return None
    wrong = [k for k in {**want, **got} if k not in want or k not in got or not same(want[k], got[k])]
    return "; ".join(f"{k}: want {want.get(k, '<absent>')!r}, got {got.get(k, '<absent>')!r}" for k in wrong[:5])


# What PyYAML takes and the program, which reads YAML with libyaml, refuses: docs/configuration.md. All but the first are
# rare; the first is refused whichever of its versions is installed here.
REFUSED = ["versions of PyYAML differ", "has a '?' inside [] or {}", "has a ':' right before a sign of [] or {}", "found a tab character where an indentation space"]


def random_difference(rng, program, kind):
    files, overrides = case(rng, kind)
    with tempfile.TemporaryDirectory() as folder:
        write_files(files, folder)
        want = show(folder, "config", overrides)
        got = run(program, folder, "config", overrides)
    problem = difference(want, got)
    if isinstance(got, str) and any(words in got for words in REFUSED):
        problem = None
    return problem, f"{kind} {overrides}\n" + "\n".join(f"# {path}\n{text}" for path, text in files.items())


def example_difference(rng, program, path, known={}):
    """Half of the cases pile overrides on one another: the second may address what the first made."""
    folder, name = str(path.parent), path.stem
    if path not in known:
        flat = show(folder, name, [])
        known[path] = [] if isinstance(flat, str) else leaves(flat)
    overrides = [override(rng, known[path], groups(folder)) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
    return difference(show(folder, name, overrides), run(program, folder, name, overrides)), f"{path} {overrides}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--examples", type=pathlib.Path)
    args = parser.parse_args()
    os.environ |= {"FUZZ_VAR": "env value", "FUZZ_NUM": "12"}
    rng = random.Random(args.seed)
    paths = sorted(args.examples.rglob("*.yaml")) if args.examples else []
    counts, bad = collections.Counter(), 0
    for _ in range(args.cases):
        kind = "example" if paths else args.kind or rng.choice(KINDS)
        problem, what = example_difference(rng, args.program, rng.choice(paths)) if paths else random_difference(rng, args.program, kind)
        counts[kind] += 1
        if problem:
            bad += 1
            print(f"--- {what}", problem, "", sep="\n")
    print(f"{dict(counts)}, {bad} differ")
    raise SystemExit(bad > 0)


main()
