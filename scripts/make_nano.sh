#!/usr/bin/env bash
# Makes dkt-nano again: renders its data, trains it on colour alone, goes on with the raw depth shown,
# evaluates. Killed, it goes on where it stopped when called again. By their pace, four hours of
# rendering and seven of training on two CPU cores. Scenes that cannot be rendered are named and done
# without.
#
#   scripts/make_nano.sh [FOLDER]     default: runs/nano/
#
# TRY=1 goes through all of it in minutes, by default in runs/nano-try/. SINGLES, CLIPS (scenes of
# colour), SCENES (of each of four kinds with raw depth), MOVING (of 21 frames with it), HELDOUT, COLOUR
# and DEPTH (recipes) make another one.
set -euo pipefail

name=nano
. "$(dirname "$0")/stages.sh"

stage='steps: 6, height: 48, width: 80, batch: 2, clip_every: 2'
small=(--set "stages=[{$stage}]" --set decay_steps=2 --set save_every=2)
all=(--version 2 --size 192x320)
render colour 100 --pool train --frames 1 --scenes "${SINGLES:-900}" "${all[@]}"
render colour 101 --pool train --frames 5 --scenes "${CLIPS:-90}" "${all[@]}"
learn pretrain colour_run colour "${COLOUR:-dkt-nano}" \
  ${try:+--set vae_steps=1 --set encoder_steps=1}

render_with_raw_depth "${SCENES:-240}" "${HELDOUT:-24}"
render train 433 --pool train --frames 21 --scenes "${MOVING:-40}" --size 160x288 --raw-depth \
  --sensor mixed
learn pretrain run train "${DEPTH:-dkt-nano-depth}" --set "start=$folder/colour_run/checkpoint" \
  ${try:+--set stages.0.clip_frames=21}
is_judged run heldout "$folder/eval.json" ||
  dkt eval --data "$folder/heldout" --checkpoint "$folder/run/checkpoint" --mode both \
    --live-publish all --output "$folder/eval.json"
echo "made: $folder/run/checkpoint, judged in $folder/eval.json"
