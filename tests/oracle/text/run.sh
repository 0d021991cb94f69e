#!/usr/bin/env bash
# Tokenizers and chat templates against Hugging Face's and llama.cpp's: run.sh PYTHON BUILD FOLDER [MEGABYTES]
# BUILD holds bench/text/tokenize_text and test_text; what is compared is fetched into FOLDER once.
set -euo pipefail
python=$1 build=$(realpath "$2") folder=$3 megabytes=${4:-110}
here=$(dirname "$(readlink -f "$0")")
aquila=$here/../../../../shared/flagscale/examples/aquila/tokenizer
tokenize=$build/bench/text/tokenize_text
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$here/fetch.sh" "$python" "$folder"
vocabularies=$folder/llama.cpp/ggml-vocab

echo "-- chat templates of llama.cpp's collection against transformers"
"$python" "$here/make_templates.py" "$scratch/templates.json" "$folder/llama.cpp/templates" --all
FLAGSCALE_TEMPLATES=$scratch/templates.json "$build/src/test_text" --gtest_filter=ChatTemplate.RendersAsTransformersDoes --gtest_brief=1

echo "-- tokenizers against llama.cpp's cases"
cases=()
for name in gpt-2 llama-bpe llama-spm phi-3 qwen2 qwen35 deepseek-llm deepseek-coder falcon mpt refact starcoder command-r; do
  cases+=("$vocabularies-$name.gguf")
done
"$python" "$here/check_cases.py" "$tokenize" "${cases[@]}"

echo "-- tokenizers against Hugging Face's, every id"
nice "$python" "$here/corpus.py" "$scratch/corpus" "$folder/texts" --megabytes "$megabytes" --real $((megabytes * 6 / 10))
"$python" "$here/deepseek_like.py" "$tokenize" "$vocabularies-qwen2.gguf" "$scratch/deepseek3-like.json"
compared=("$vocabularies"-{gpt-2,starcoder,llama-bpe,qwen2,qwen35,aquila,llama-spm}.gguf "$scratch/deepseek3-like.json")
if [ -d "$aquila" ]; then compared+=("$aquila"); else echo "no Aquila tokenizer beside this tree: not compared"; fi
for tokenizer in "${compared[@]}"; do
  nice "$python" "$here/compare.py" "$tokenize" "$tokenizer" "$scratch/corpus"
done

echo "-- SentencePiece models of every kind against the library's ids"
head -c 200000 "$scratch/corpus" >"$scratch/training"
head -c 5000000 "$scratch/corpus" | iconv -c -f utf-8 -t utf-8 >"$scratch/some"
nice "$python" "$here/sentencepiece_models.py" "$scratch/models" --vocab 4000 "$scratch/training"
nice "$python" "$here/compare_sentencepiece.py" "$tokenize" "$scratch/some" "$vocabularies"-{llama-spm,phi-3,baichuan}.gguf "$scratch"/models/*.model
