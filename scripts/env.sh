# Puts this checkout's environment in front of the shell's: `source scripts/env.sh` (bash or zsh).
#
# Knows three places: a sourced ROS installation (kept as it is), the virtual environment in .venv
# (itself an ament prefix when ROS comes from wheels), and the colcon build of this package in
# install/. Sourcing it twice changes nothing.

if [ -n "${BASH_VERSION:-}" ]; then
  _dkt_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
elif [ -n "${ZSH_VERSION:-}" ]; then
  # shellcheck disable=SC2296
  _dkt_root=$(cd "$(dirname "${(%):-%x}")/.." && pwd)
else
  echo "scripts/env.sh: source it from bash or zsh" >&2
  return 1
fi
_dkt_venv=$_dkt_root/.venv
case $- in *u*) _dkt_strict=u && set +u ;; *) _dkt_strict= ;; esac # colcon reads unset variables

# _dkt_prepend VARIABLE PATH: PATH becomes the first entry of VARIABLE unless it is one already.
_dkt_prepend() {
  eval "_dkt_value=\${$1:-}"
  # shellcheck disable=SC2154
  case ":$_dkt_value:" in
    *":$2:"*) ;;
    *) eval "export $1=\"\$2\${_dkt_value:+:\$_dkt_value}\"" ;;
  esac
}

if [ -d "$_dkt_venv" ]; then
  export VIRTUAL_ENV=$_dkt_venv
  _dkt_prepend PATH "$_dkt_venv/bin"
  if [ -d "$_dkt_venv/share/rclpy" ]; then
    _dkt_prepend AMENT_PREFIX_PATH "$_dkt_venv"
    _dkt_prepend CMAKE_PREFIX_PATH "$_dkt_venv"
    for _dkt_libs in "$_dkt_venv"/lib "$_dkt_venv"/lib/python3.*/site-packages/ros_*.libs; do
      _dkt_prepend LD_LIBRARY_PATH "$_dkt_libs"
    done
    export ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO=kilted
  fi
fi

if [ -n "${BASH_VERSION:-}" ] && [ -f "$_dkt_root/install/local_setup.bash" ]; then
  # shellcheck disable=SC1091
  . "$_dkt_root/install/local_setup.bash"
elif [ -n "${ZSH_VERSION:-}" ] && [ -f "$_dkt_root/install/local_setup.zsh" ]; then
  # shellcheck disable=SC1091
  . "$_dkt_root/install/local_setup.zsh"
fi

[ -z "$_dkt_strict" ] || set -u
unset _dkt_root _dkt_venv _dkt_value _dkt_libs _dkt_strict
unset -f _dkt_prepend
