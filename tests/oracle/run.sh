#!/usr/bin/env bash
# What `./dev test --all` runs beside ctest: the program against the originals, in an environment with
# tests/oracle/requirements.txt: tests/oracle/run.sh PYTHON PROGRAM FOLDER_WITH_SMOLLM2
set -euo pipefail
python=$1 program=$2 models=$3
here=$(dirname "$(readlink -f "$0")")
source_dir=$here/../..
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "-- composition against hydra-core, random cases"
(cd "$here/compose" && "$python" fuzz_compose.py "$program" --cases 300 --seed "$RANDOM"
  "$python" fuzz_compose.py "$program" --examples "$source_dir/examples" --cases 300 --seed "$RANDOM")

echo "-- our exports in transformers"
for oracle in "$source_dir"/tests/golden/model/*/oracle.safetensors; do
  model=$(dirname "$oracle")
  "$program" checkpoint export "$model" "$scratch/$(basename "$model")"
  "$python" "$here/model/check_export.py" "$scratch/$(basename "$model")" "$oracle"
done

echo "-- our adapters in PEFT, merged and unmerged"
"$python" "$here/train/check_peft.py" "$program" "$scratch/peft"

echo "-- SmolLM2: 20 steps of training, whole and by LoRA, against transformers and PEFT"
"$python" "$here/train/check_smollm2_train.py" "$program" "$models" "$scratch/smollm2"

echo "-- event files in TensorBoard"
"$python" "$here/train/check_tensorboard.py" "$program" "$scratch/events"

echo "-- SmolLM2: import, texts and log-probabilities against transformers"
"$python" "$here/model/check_smollm2.py" "$program" "$models"

echo "-- SmolLM2, served: greedy answers alone and among 32 against transformers"
"$python" "$here/model/check_served.py" "$program" "$models"

echo "-- tokenizers and chat templates"
"$here/text/run.sh" "$python" "$(dirname "$program")" "$models"
