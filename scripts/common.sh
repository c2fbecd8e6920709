# What the scripts share: where the checkout is, whether ROS is installed, how to speak and to stop.
# Source it from bash.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
state=$root/.setup # logs and stamps; ignored by git

say() { printf 'dkt_ros: %s\n' "$*"; }

# fail MESSAGE [WHAT_TO_DO...]: one line an argument, then stops.
fail() {
  printf 'dkt_ros: error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '         %s\n' "$@" >&2
  exit 1
}

# The prefix of a sourced ROS installation; nothing where there is none. Virtual environments are
# none, neither this checkout's nor another's.
ros_installation() {
  local prefix prefixes
  IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    if [ -d "$prefix/share/rclpy" ] && [ ! -f "$prefix/pyvenv.cfg" ]; then
      echo "$prefix"
      return
    fi
  done
}
