#!/usr/bin/env bash
# What was tried when +TGT did not beat MODEL; docs/results/nusax-minilm.md has the outcome.
#
#   TAXLT_DATA=DIR experiments/nusax/vary.sh OUT            # OUT: of run.sh
#
# Scores are of NusaX's training split (500 documents a language), which neither chooses λ nor tests anything.
set -euo pipefail

OUT=${1:?usage: TAXLT_DATA=DIR experiments/nusax/vary.sh OUT}
HERE=$(cd "$(dirname "$0")" && pwd)
export TAXLT_DATA=$(cd "${TAXLT_DATA:?must name the folder with nusax}" && pwd)
export HF_HUB_OFFLINE=1
: "${PRECISION:=--bf16}"
cd "$OUT"

eval_tasks=$(python -c "from taxlt_mergekit.paper.tasks import task_folder; print(task_folder())")/nusax_senti
mkdir -p tasks
cp "$eval_tasks"/{nusax_senti_common_yaml,*.py} tasks
for code in mad bbc; do
    sed 's/nusax_senti_dev_/nusax_senti_train_/; s/test_split: validation/test_split: train/' \
        "$eval_tasks/nusax_senti_dev_$code.yaml" >"tasks/nusax_senti_train_$code.yaml"
done

vary() { # NAME SEED WEIGHTS STEPS RATE TARGET...
    local folder=vary/$1 seed=$2 weights=$3 steps=$4 rate=$5
    shift 5
    mkdir -p "$folder/vectors/minilm"
    ln -sfn ../../minilm "$folder/minilm"
    ln -sfn ../../recipes "$folder/recipes"
    ln -sfn "../../../../seed-$seed/vectors/minilm/task" "$folder/vectors/minilm/task"
    (
        cd "$folder"
        for code in "$@"; do
            taxlt train language minilm --corpus "../../text/$code.txt" --lang "$code" --max-steps "$steps" \
                --batch-size 32 --block-size 64 --learning-rate "$rate" --eval-steps 200 --seed "$seed" $PRECISION \
                --resume
        done
        taxlt sweep $(printf 'recipes/%s_plus_tgt.yml ' "$@") --weight "$weights" --seed "$seed" \
            --output diagnosis --tasks 'nusax_senti_train_{language}' --include-path ../../tasks
    )
    taxlt report "$folder/diagnosis" --output "$folder/report"
}

python "$HERE/pieces.py" minilm text/*.txt >pieces.json
vary faster 1 0.1,0.2,0.3,0.4,0.5,0.6,0.8,1.0,1.2 400 3e-4 mad bbc
vary longer 1 0.1,0.2,0.3,0.4,0.5,0.6,0.8,1.0,1.2 1200 3e-4 mad
vary slower 1 0.2:2.0:0.2 400 5e-5 mad bbc
# The seed whose MODEL is the strongest, and which gains nothing.
vary third-seed 3 0.2:2.0:0.2 400 5e-5 mad bbc
vary third-seed-longer 3 0.2:2.0:0.2 1200 5e-5 mad bbc
