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
scenes=${SCENES:-240}

# render NAME SEED OPTIONS...: into $folder/NAME. Status 1 says that some scenes failed; whatever
# failed, there is something to train on where tars of this seed lie.
render() {
  local output=$folder/$1 seed=$2 status=0
  shift 2
  dkt synth render --size 160x288 --raw-depth --output "$output" --seed "$seed" "$@" ||
    status=$?
  if ((status == 1)) && compgen -G "$output/s0$seed-*.tar" >/dev/null; then
    echo "make_fusion: scenes of seed $seed failed (named above); going on without them" >&2
  elif ((status != 0)); then
    echo "make_fusion: rendering seed $seed into $output failed (status $status)" >&2
    exit "$status"
  fi
}

render train 400 --version 2 --pool train --frames 2 --scenes "$scenes"
render train 401 --version 2 --pool train --frames 2 --scenes "$scenes" \
  --radius 0.25 0.8 --elevation 30 85
render train 430 --sensor mixed --pool train --frames 2 --scenes "$scenes"
render train 431 --sensor mixed --pool train --frames 2 --scenes "$scenes"
render heldout 420 --version 2 --pool held-out --frames 3 --scenes "${HELDOUT:-24}"

resume=()
[[ -e $folder/run/state.pt ]] && resume=(--resume)
dkt pretrain-fusion --data "$folder/train" --config "$config" --output "$folder/run" "${resume[@]}"
python benchmarks/fusion.py --heldout "$folder/heldout" --disparity "$folder/run/disparity" \
  --weights "$folder/run/refiner" --calibrate
