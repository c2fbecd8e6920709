# What make_nano.sh and make_fusion.sh share: rendering into $folder. Source it from bash.

# render NAME SEED OPTIONS...: into $folder/NAME. Status 1 says that some scenes failed; whatever
# failed, there is something to train on where tars of this seed lie.
render() {
  local output=$folder/$1 seed=$2 status=0
  shift 2
  dkt synth render --output "$output" --seed "$seed" "$@" || status=$?
  if ((status == 1)) && compgen -G "$output/s0$seed-*.tar" >/dev/null; then
    echo "${0##*/}: scenes of seed $seed failed (named above); going on without them" >&2
  elif ((status != 0)); then
    echo "${0##*/}: rendering seed $seed into $output failed (status $status)" >&2
    exit "$status"
  fi
}

# render_with_raw_depth SCENES HELDOUT: what networks learn from that are shown raw depth, SCENES
# of each of four kinds, and HELDOUT scenes.
render_with_raw_depth() {
  local train=(--pool train --frames 2 --scenes "$1" --size 160x288 --raw-depth)
  render train 400 --version 2 "${train[@]}"
  render train 401 --version 2 "${train[@]}" --radius 0.25 0.8 --elevation 30 85
  render train 430 --sensor mixed "${train[@]}"
  render train 431 --sensor mixed "${train[@]}"
  render heldout 420 --version 2 --size 160x288 --raw-depth --frames 3 --pool held-out \
    --scenes "$2"
}
