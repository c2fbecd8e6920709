#!/usr/bin/env bash
# Makes dkt-nano again: renders its data, trains it on colour alone, goes on with the raw depth shown,
# evaluates. Killed, it goes on where it stopped when called again. By their pace, four hours of
# rendering and seven of training on two CPU cores. Scenes that cannot be rendered are named and done
# without.
#
#   scripts/make_nano.sh [FOLDER]     default: runs/nano/
#
# SINGLES, CLIPS (scenes of colour), SCENES (of each of four kinds with raw depth), MOVING (of 21 frames
# with it), HELDOUT, COLOUR and DEPTH (recipes) make a smaller one, to try it out.
set -euo pipefail

folder=${1:-runs/nano}
. "$(dirname "$0")/rendering.sh"

# pretrain NAME DATA RECIPE OPTIONS...: into $folder/NAME.
pretrain() {
  local output=$folder/$1 resume=()
  [[ -e $output/state.pt ]] && resume=(--resume)
  dkt pretrain --data "$folder/$2" --config "$3" --output "$output" "${@:4}" "${resume[@]}"
}

all=(--version 2 --size 192x320)
render colour 100 --pool train --frames 1 --scenes "${SINGLES:-900}" "${all[@]}"
render colour 101 --pool train --frames 5 --scenes "${CLIPS:-90}" "${all[@]}"
pretrain colour_run colour "${COLOUR:-dkt-nano}"

render_with_raw_depth "${SCENES:-240}" "${HELDOUT:-24}"
render train 433 --pool train --frames 21 --scenes "${MOVING:-40}" --size 160x288 --raw-depth \
  --sensor mixed
pretrain run train "${DEPTH:-dkt-nano-depth}" --set "start=$folder/colour_run/checkpoint"
dkt eval --data "$folder/heldout" --checkpoint "$folder/run/checkpoint" --mode both \
  --live-publish all --output "$folder/eval.json"
