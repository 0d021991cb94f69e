#!/usr/bin/env bash
# What the comparison of tokenizers reads, fetched once: fetch.sh PYTHON FOLDER
#   FOLDER/llama.cpp  vocabularies (ggml-vocab-*.gguf, with .inp and .out) and chat templates, from the source of PyPI's
#                     llama-cpp-python
#   FOLDER/texts      real text in many scripts: Debian's iso-codes and installation-guide, PyPI's Django
set -euo pipefail
python=$1 folder=$(realpath -m "$2")
mkdir -p "$folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ ! -d "$folder/llama.cpp" ]; then
  "$python" -m pip install -q scikit-build-core
  "$python" -m pip download -q --no-deps --no-binary :all: --no-build-isolation -d "$scratch" llama-cpp-python==0.3.36
  tar xzf "$scratch"/llama_cpp_python-*.tar.gz -C "$scratch" --wildcards '*/vendor/llama.cpp/models/*'
  mv "$scratch"/llama_cpp_python-*/vendor/llama.cpp/models "$folder/llama.cpp"
fi

if [ ! -d "$folder/texts" ]; then
  mkdir "$scratch/texts"
  cd "$scratch"
  apt-get download -q iso-codes installation-guide-amd64
  for package in *.deb; do dpkg -x "$package" texts; done
  find texts -name '*.gz' -exec gunzip {} +
  find texts -name '*.pdf' -delete
  "$python" -m pip download -q --no-deps --no-binary :none: -d . django==5.2.8
  "$python" -m zipfile -e django-*.whl texts
  mv texts "$folder/texts"
fi
