#!/usr/bin/env bash
# Makes the refiners of dkt_ros/fusion again: renders their data, trains, calibrates, evaluates, first
# the one for networks that are shown raw depth, then from there the one for all others, with things
# like packaging among its scenes; then both for sensors of structured light and time of flight, on
# from those for stereo; then the matcher, on all of it. Killed, it goes on where it stopped when called
# again. By their pace, three and a half hours of rendering and four of training on two CPU cores. Scenes that cannot be
# rendered are named and done without.
#
#   scripts/make_fusion.sh [FOLDER]     default: runs/fusion/
#
# SCENES (of each of seven kinds), HELDOUT (scenes of each of three), CONFIG, COLOUR, MATCHER, LIGHT
# and LIGHT_COLOUR (recipes) make a smaller one, to try it out.
set -euo pipefail

folder=${1:-runs/fusion}
. "$(dirname "$0")/rendering.sh"

# pretrain WHAT NAME DATA RECIPE OPTIONS...: trained into $folder/NAME on $folder/DATA.
pretrain() {
  local output=$folder/$2 resume=()
  [[ -e $output/state.pt ]] && resume=(--resume)
  dkt "pretrain-$1" --data "$folder/$3" --config "$4" --output "$output" "${@:5}" "${resume[@]}"
}

refiner() { pretrain fusion "$@"; }

# calibrated NAME HELDOUT OPTIONS...: the one in $folder/NAME calibrated and evaluated.
calibrated() {
  python benchmarks/fusion.py --heldout "$folder/$2" --disparity "$folder/$1/heldout" \
    --weights "$folder/$1/refiner" --calibrate "${@:3}"
}

scenes=${SCENES:-240} heldout=${HELDOUT:-24}
small=(--size 160x288 --raw-depth)
render_with_raw_depth "$scenes" "$heldout"
refiner run train "${CONFIG:-fusion}"
calibrated run heldout
render train 952 --sensor mixed --shares packaging=0.5 --pool train --frames 2 \
  --scenes "$scenes" "${small[@]}"
refiner colour_run train "${COLOUR:-fusion-colour}" --start "$folder/run/refiner"
calibrated colour_run heldout --colour

render light 440 --sensor structured-light --pool train --frames 2 --scenes "$scenes" "${small[@]}"
render light 441 --sensor tof --pool train --frames 2 --scenes "$scenes" "${small[@]}"
render light_heldout 531 --sensor tof --pool held-out --scenes "$heldout" "${small[@]}"
render light_heldout 532 --sensor structured-light --pool held-out --scenes "$heldout" "${small[@]}"
refiner light_run light "${LIGHT:-fusion-light}" --start "$folder/run/refiner"
calibrated light_run light_heldout
refiner light_colour_run light "${LIGHT_COLOUR:-fusion-light-colour}" \
  --start "$folder/light_run/refiner"
calibrated light_colour_run light_heldout --colour

# One matcher for all sensors.
mkdir -p "$folder"/{train,light,all}
find "$folder/train" "$folder/light" -name '*.tar' -exec ln -srf -t "$folder/all" {} +
pretrain matcher matcher_run all "${MATCHER:-matcher}"
