#!/usr/bin/env bash
# Makes the refiners of dkt_ros/fusion again: renders their data, trains, calibrates, evaluates, first
# the one for networks that are shown raw depth, then from there the one for all others, with things
# like packaging among its scenes; then both for sensors of structured light and time of flight, on
# from those for stereo; then the matcher, on all of it. Killed, it goes on where it stopped when called
# again. By their pace, three and a half hours of rendering and four of training on two CPU cores.
# Scenes that cannot be rendered are named and done without.
#
#   scripts/make_fusion.sh [FOLDER]     default: runs/fusion/
#
# TRY=1 goes through all of it in minutes, by default in runs/fusion-try/. SCENES (of each of seven
# kinds), HELDOUT (scenes of each of three), CONFIG, COLOUR, MATCHER, LIGHT and LIGHT_COLOUR (recipes)
# make another one.
set -euo pipefail

name=fusion
. "$(dirname "$0")/stages.sh"

small=(--set steps=4 --set decay_steps=2 --set save_every=2 --set batch=2)
refiner() { learn pretrain-fusion "$@"; }

# calibrated NAME HELDOUT OPTIONS...: the one in $folder/NAME calibrated and evaluated.
calibrated() {
  local told=$folder/$1/evaluation.txt
  ! is_judged "$1" "$2" "$told" || return 0
  mkdir -p "$folder/$1"
  python benchmarks/fusion.py --heldout "$folder/$2" --disparity "$folder/$1/heldout" \
    --weights "$folder/$1/refiner" --calibrate "${@:3}" | tee "$told.partial"
  mv "$told.partial" "$told"
}

scenes=${SCENES:-240} heldout=${HELDOUT:-24}
size=(--size 160x288 --raw-depth)
render_with_raw_depth "$scenes" "$heldout"
refiner run train "${CONFIG:-fusion}"
calibrated run heldout
render train 952 --sensor mixed --shares packaging=0.5 --pool train --frames 2 \
  --scenes "$scenes" "${size[@]}"
refiner colour_run train "${COLOUR:-fusion-colour}" --start "$folder/run/refiner"
calibrated colour_run heldout --colour

render light 440 --sensor structured-light --pool train --frames 2 --scenes "$scenes" "${size[@]}"
render light 441 --sensor tof --pool train --frames 2 --scenes "$scenes" "${size[@]}"
render light_heldout 531 --sensor tof --pool held-out --scenes "$heldout" "${size[@]}"
render light_heldout 532 --sensor structured-light --pool held-out --scenes "$heldout" "${size[@]}"
refiner light_run light "${LIGHT:-fusion-light}" --start "$folder/run/refiner"
calibrated light_run light_heldout
refiner light_colour_run light "${LIGHT_COLOUR:-fusion-light-colour}" \
  --start "$folder/light_run/refiner"
calibrated light_colour_run light_heldout --colour

# One matcher for all sensors.
mkdir -p "$folder"/{train,light,all}
find "$folder/train" "$folder/light" -name '*.tar' -exec ln -srf -t "$folder/all" {} +
learn pretrain-matcher matcher_run all "${MATCHER:-matcher}" ${try:+--set pool=32}
echo "made: refiner/ in $folder/{run,colour_run,light_run,light_colour_run}, matcher_run/matcher"
