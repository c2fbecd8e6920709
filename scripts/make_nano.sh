#!/usr/bin/env bash
# Makes dkt-nano again: renders its data, trains, evaluates. Killed, it goes on where it stopped when
# called again. By their pace, an hour of rendering and three of training on two CPU cores. Scenes
# that cannot be rendered are named and done without.
#
#   scripts/make_nano.sh [FOLDER]     default: runs/nano/
#   CONFIG=dkt-nano-depth scripts/make_nano.sh     the one that is shown the raw depth, in runs/dkt-nano-depth/
#
# SINGLES, CLIPS, HELDOUT (scenes), SCENES (of each of the four kinds with raw depth) and CONFIG make
# a smaller one, to try it out.
set -euo pipefail

folder=${1:-runs/${CONFIG:-nano}}
config=${CONFIG:-dkt-nano}
. "$(dirname "$0")/rendering.sh"

if [[ $config == *depth* ]]; then
  render_with_raw_depth "${SCENES:-240}" "${HELDOUT:-24}"
else
  all=(--version 2 --size 192x320)
  render train 100 --pool train --frames 1 --scenes "${SINGLES:-900}" "${all[@]}"
  render train 101 --pool train --frames 5 --scenes "${CLIPS:-90}" "${all[@]}"
  render heldout 220 --pool held-out --frames 9 --scenes "${HELDOUT:-12}" --raw-depth "${all[@]}"
fi

resume=()
[[ -e $folder/run/state.pt ]] && resume=(--resume)
dkt pretrain --data "$folder/train" --config "$config" --output "$folder/run" "${resume[@]}"
dkt eval --data "$folder/heldout" --checkpoint "$folder/run/checkpoint" --mode both \
  --live-publish all --output "$folder/eval.json"
