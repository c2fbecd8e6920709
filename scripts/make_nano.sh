#!/usr/bin/env bash
# Makes dkt-nano again: renders its data, trains, evaluates. Killed, it goes on where it stopped when
# called again. By their pace, an hour of rendering and three of training on two CPU cores. Scenes
# that cannot be rendered are named and done without.
#
#   scripts/make_nano.sh [FOLDER]     default: runs/nano/
#
# SINGLES, CLIPS, HELDOUT (scenes) and CONFIG make a smaller one, to try it out.
set -euo pipefail

folder=${1:-runs/nano}
config=${CONFIG:-dkt-nano}

# render NAME SEED OPTIONS...: into $folder/NAME. Status 1 says that some scenes failed; whatever
# failed, there is something to train on where tars of this seed lie.
render() {
  local output=$folder/$1 seed=$2 status=0
  shift 2
  dkt synth render --version 2 --size 192x320 --output "$output" --seed "$seed" "$@" || status=$?
  if ((status == 1)) && compgen -G "$output/s0$seed-*.tar" >/dev/null; then
    echo "make_nano: scenes of seed $seed failed (named above); going on without them" >&2
  elif ((status != 0)); then
    echo "make_nano: rendering seed $seed into $output failed (status $status)" >&2
    exit "$status"
  fi
}

render train 100 --pool train --frames 1 --scenes "${SINGLES:-900}"
render train 101 --pool train --frames 5 --scenes "${CLIPS:-90}"
render heldout 220 --pool held-out --frames 9 --raw-depth --scenes "${HELDOUT:-12}"

resume=()
[[ -e $folder/run/state.pt ]] && resume=(--resume)
dkt pretrain --data "$folder/train" --config "$config" --output "$folder/run" "${resume[@]}"
dkt eval --data "$folder/heldout" --checkpoint "$folder/run/checkpoint" --mode both \
  --live-publish all --output "$folder/eval.json"
