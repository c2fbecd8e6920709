#!/usr/bin/env bash
# Makes the refiner of dkt_ros/fusion again: renders its data, trains, calibrates, evaluates. Killed,
# it goes on where it stopped when called again. By their pace, two hours of rendering and one of
# training on two CPU cores. Scenes that cannot be rendered are named and done without.
#
#   scripts/make_fusion.sh [FOLDER]     default: runs/fusion/
#
# SCENES (of each of four kinds), HELDOUT (scenes) and CONFIG make a smaller one, to try it out.
set -euo pipefail

folder=${1:-runs/fusion}
config=${CONFIG:-fusion}
. "$(dirname "$0")/rendering.sh"

render_with_raw_depth "${SCENES:-240}" "${HELDOUT:-24}"
resume=()
[[ -e $folder/run/state.pt ]] && resume=(--resume)
dkt pretrain-fusion --data "$folder/train" --config "$config" --output "$folder/run" "${resume[@]}"
python benchmarks/fusion.py --heldout "$folder/heldout" --disparity "$folder/run/disparity" \
  --weights "$folder/run/refiner" --calibrate
