#!/usr/bin/env bash
# Makes the refiners of dkt_ros/fusion again: renders their data, trains, calibrates, evaluates, first
# the one for networks that are shown raw depth, then from there the one for all others. Killed, it
# goes on where it stopped when called again. By their pace, two hours of rendering and two of
# training on two CPU cores. Scenes that cannot be rendered are named and done without.
#
#   scripts/make_fusion.sh [FOLDER]     default: runs/fusion/
#
# SCENES (of each of four kinds), HELDOUT (scenes), CONFIG and COLOUR (recipes) make a smaller one, to
# try it out.
set -euo pipefail

folder=${1:-runs/fusion}
. "$(dirname "$0")/rendering.sh"

# refiner NAME RECIPE OPTIONS...: trained into $folder/NAME.
refiner() {
  local output=$folder/$1 resume=()
  [[ -e $output/state.pt ]] && resume=(--resume)
  dkt pretrain-fusion --data "$folder/train" --config "$2" --output "$output" "${@:3}" "${resume[@]}"
}

# calibrated NAME OPTIONS...: the one in $folder/NAME calibrated and evaluated.
calibrated() {
  python benchmarks/fusion.py --heldout "$folder/heldout" --disparity "$folder/$1/heldout" \
    --weights "$folder/$1/refiner" --calibrate "${@:2}"
}

render_with_raw_depth "${SCENES:-240}" "${HELDOUT:-24}"
refiner run "${CONFIG:-fusion}"
calibrated run
refiner colour_run "${COLOUR:-fusion-colour}" --start "$folder/run/refiner"
calibrated colour_run --colour
