#!/usr/bin/env bash
# Makes dkt-nano again: renders its data, trains, evaluates. Killed, it goes on where it stopped when
# called again. About 4 hours of rendering and 5 of training on two CPU cores.
#
#   scripts/make_nano.sh [FOLDER]     default: runs/nano/
#
# SINGLES, CLIPS, HELDOUT (scenes) and CONFIG make a smaller one, to try it out.
set -euo pipefail

folder=${1:-runs/nano}
config=${CONFIG:-config/train/dkt-nano.yaml}
render=(dkt synth render --size 192x320)

"${render[@]}" --output "$folder/train" --pool train --seed 100 --frames 1 --scenes "${SINGLES:-600}"
"${render[@]}" --output "$folder/train" --pool train --seed 101 --frames 5 --scenes "${CLIPS:-90}"
"${render[@]}" --output "$folder/heldout" --pool held-out --seed 220 --frames 9 --raw-depth \
  --scenes "${HELDOUT:-12}"

resume=()
[[ -e $folder/run/state.pt ]] && resume=(--resume)
dkt pretrain --data "$folder/train" --config "$config" --output "$folder/run" "${resume[@]}"
dkt eval --data "$folder/heldout" --checkpoint "$folder/run/checkpoint" --mode both \
  --live-publish all --output "$folder/eval.json"
