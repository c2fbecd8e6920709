# The stages of make_nano.sh and make_fusion.sh: rendering and training in $folder, where each goes on
# from where it stopped. Source it from bash, after `name=` and with the folder as argument.
#
# TRY=1 in the environment makes scenes and stages as few, small and short as can be.

try=${TRY:+-try}
folder=${1:-runs/$name$try}
[[ -z $try ]] || : "${SINGLES:=1}" "${CLIPS:=1}" "${SCENES:=1}" "${MOVING:=1}" "${HELDOUT:=2}"

# render NAME SEED OPTIONS...: into $folder/NAME. Status 1 says that some scenes failed; whatever
# failed, there is something to train on where tars of this seed lie.
render() {
  local output=$folder/$1 seed=$2 status=0
  shift 2
  dkt synth render --output "$output" --seed "$seed" "$@" ${try:+--size 64x112 --samples 1} ||
    status=$?
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

# learn COMMAND NAME DATA RECIPE OPTIONS...: by `dkt COMMAND` into $folder/NAME, from $folder/DATA.
# small: what TRY puts over the recipe.
learn() {
  local output=$folder/$2 more=()
  [[ -z $try ]] || more+=("${small[@]}")
  more+=("${@:5}")
  [[ ! -e $output/state.pt ]] || more+=(--resume)
  dkt "$1" --data "$folder/$3" --config "$4" --output "$output" "${more[@]}"
}

# is_judged NAME DATA RESULT: whether RESULT was written since $folder/NAME was trained and the scenes
# of $folder/DATA were rendered; says so.
is_judged() {
  [[ $3 -nt $folder/$1/state.pt ]] || return
  [[ -z $(find "$folder/$2" -name '*.tar' -newer "$3") ]] || return
  echo "${0##*/}: $1 is judged already, in $3; without that file it is again"
}
