#!/usr/bin/env bash
# Builds the virtual environment .venv, or finds it complete and does nothing.
#
# Without a sourced ROS installation the environment holds ROS 2 itself, from wheels; with one it
# sees the installation's Python packages and holds the rest. An interrupted run is taken up again:
# the stamp that says "complete" is written last.
#
#   PYTHON=...     the interpreter to use instead of the one that is found
#   EXTRAS="..."   what to install beside what the node needs (files in requirements/), remembered;
#                  default: all. A robot does with EXTRAS="", EXTRAS="clouds data".
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Colcon's scripts and programs' first lines take a space apart, ROS's message generator knows ASCII
# alone, and a colon ends an entry of PATH.
if (LC_ALL=C && [[ $root == *[![:graph:]]* || $root == *:* ]]); then
  fail "the checkout lies in '$root': ROS cannot build there." \
    "Expected a path without spaces, colons and letters beyond ASCII: move the checkout"
fi

stamp=$venv/.dkt-complete
log=$state/pip.log
ros=$(ros_installation)
lock=$root/requirements/lock.txt
choice=$state/extras
extras=${EXTRAS-$(cat "$choice" 2>/dev/null ||
  echo "clouds data demo docs grasp onnx synth tensorrt test train")}
requirements=(core.txt)
for extra in $extras; do
  requirements+=("$extra.txt")
  [ -f "$root/requirements/$extra.txt" ] ||
    fail "EXTRAS names $extra, which has no file in requirements/." \
      "Known: $(cd "$root/requirements" && echo *.txt | sed 's/\.txt//g')"
done
mkdir -p "$state"
[ -z "${EXTRAS+given}" ] || echo "$extras" >"$choice"

fingerprint() {
  {
    echo "$venv ${ros:-wheels} $(python_version "${PYTHON:-$venv/bin/python}") $extras"
    cat "$root"/requirements/*.txt "${BASH_SOURCE[0]}" "$root/scripts/prune_cmake_includes.py"
  } | sha256sum | cut -d' ' -f1
}

# python_version INTERPRETER: "3.11", or nothing where it does not run (a version manager's shim).
python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

find_python() {
  local candidate version
  if [ -n "${PYTHON:-}" ]; then
    [ -n "$(python_version "$PYTHON")" ] || fail "PYTHON=$PYTHON does not run."
    echo "$PYTHON"
    return
  fi
  if [ -n "$ros" ]; then
    command -v python3 || fail "ROS is sourced from $ros, but there is no python3."
    return
  fi
  # That of the environment which is there comes first: it was named, maybe.
  for candidate in "$(sed -n 's/^executable = //p' "$venv/pyvenv.cfg" 2>/dev/null || true)" \
    python3.11 python3 /usr/bin/python3.11; do
    if [ "$(python_version "$candidate")" = 3.11 ]; then
      command -v "$candidate"
      return
    fi
  done
  version=$(python_version python3)
  fail "no CPython 3.11 found (python3 is ${version:-absent})." \
    "On Debian 12: apt-get install python3.11 python3.11-venv python3.11-dev" \
    "Elsewhere install CPython 3.11 and name it: make PYTHON=/path/to/python3.11" \
    "Or source a ROS 2 installation first: source /opt/ros/<distro>/setup.bash"
}

# Prints the Debian packages that are missing for building and for Blender's wheels.
missing_packages() {
  local entry libraries version
  for entry in cc:gcc c++:g++ cmake:cmake make:make; do
    command -v "${entry%%:*}" >/dev/null || echo "${entry#*:}"
  done
  version=$(python_version "$python")
  "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "python$version-venv"
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
    echo "python$version-dev"
  libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p)
  for entry in libGL.so.1:libgl1 libEGL.so.1:libegl1 \
    libgomp.so.1:libgomp1 libX11.so.6:libx11-6 libXext.so.6:libxext6 libXfixes.so.3:libxfixes3 \
    libXi.so.6:libxi6 libXrender.so.1:libxrender1 libxkbcommon.so.0:libxkbcommon0 \
    libSM.so.6:libsm6 libICE.so.6:libice6; do
    case $libraries in *"${entry%%:*} "*) ;; *) echo "${entry#*:}" ;; esac
  done
}

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages)
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    say "installing system packages: ${packages[*]}"
    {
      apt-get update
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
    } >"$state/apt.log" 2>&1 </dev/null || {
      tail -n 5 "$state/apt.log" >&2
      fail "apt-get could not install: ${packages[*]}" "The whole log: .setup/apt.log"
    }
    return
  fi
  fail "missing system packages: ${packages[*]}" \
    "Install them, then run make again:" "  sudo apt-get install -y ${packages[*]}"
}

# culprit: the package that the last pip run in $log stumbled over.
culprit() {
  local name
  name=$(sed -nE 's/^ERROR: (No matching distribution found for|Failed building wheel for) ([^ ]+).*/\2/p' \
    "$log" | tail -n 1)
  [ -n "$name" ] || name=$(sed -nE -e 's/^ *Collecting ([^ ]+).*/\1/p' \
    -e 's/^ *Downloading (.*\/)?([A-Za-z0-9_.]+)-.*/\2/p' "$log" | tail -n 1)
  echo "${name:-unknown}"
}

# install_group TITLE REQUIREMENTS...: one pip run, its downloads shown, the rest in the log.
install_group() {
  local title=$1 file
  local arguments=()
  shift
  for file in "$@"; do arguments+=(-r "$root/requirements/$file"); done
  [ "$(python_version "$venv/bin/python")" != 3.11 ] || arguments+=(-c "$lock")
  # ROS's compiled messages go with the NumPy that they were built for.
  [ ! -f "$state/numpy.txt" ] || arguments+=(-c "$state/numpy.txt")
  say "installing $title"
  if ! "$venv/bin/python" -m pip install --no-input --disable-pip-version-check \
    --progress-bar off "${arguments[@]}" </dev/null 2>&1 | tee "$log" |
    sed -unE -e '/^ *Downloading .* MB\)/p' \
      -e 's/^WARNING: Retrying .*: ([^ ]+)$/  no answer, trying again: \1/p'; then
    { grep '^ERROR' "$log" || tail -n 3 "$log"; } >&2
    local advice="Check the network and the package index that pip uses (pip config list)."
    # A wheel that is invalid was cut short; an index that does not answer has no versions.
    grep -qE 'Retrying|Connection|Timeout|timed out|IncompleteRead|Wheel .* is invalid|versions: none' "$log" ||
      advice="The package index answered; the lines above and the log have its answer."
    fail "pip could not install $(culprit) (while installing $title)." "$advice" \
      "Then run make again: it goes on from here. The whole log: .setup/pip.log"
  fi
}

make_venv() {
  local version
  version=$(python_version "$python")
  # One that was moved here, or whose making was interrupted, is made anew.
  if [ "$(python_version "$venv/bin/python")" = "$version" ] &&
    grep -qF "$venv" "$venv/bin/activate" 2>/dev/null &&
    "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  say "making a virtual environment of Python $version in .venv"
  rm -rf "$venv"
  if [ -n "$ros" ]; then
    "$python" -m venv --system-site-packages "$venv"
  else
    "$python" -m venv "$venv"
  fi
}

# pip writes INSTALLER last: a package without it was cut short, and pip would count it as there.
forget_half_installed() {
  local information
  for information in "$venv"/lib/python3.*/site-packages/*.dist-info; do
    [ -f "$information/INSTALLER" ] || rm -rf "$information"
  done
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]; then exit 0; fi

python=$(find_python)
install_packages
rm -f "$stamp"
make_venv
forget_half_installed
if [ -n "$ros" ]; then
  say "using the ROS installation in $ros"
  "$python" -c 'import numpy
print("numpy<2" if numpy.__version__ < "2" else "numpy>=2")' >"$state/numpy.txt" ||
    fail "$python has no NumPy, though ROS's packages need it."
else
  rm -f "$state/numpy.txt"
  install_group "ROS 2 from wheels and colcon" ros.txt
  "$venv/bin/python" "$root/scripts/prune_cmake_includes.py" "$venv"
fi
# One run for all: Blender's wheels decide which NumPy the others get.
install_group "the network${extras:+ and $extras}" "${requirements[@]}"
[ "$(python_version "$venv/bin/python")" = 3.11 ] ||
  say "not CPython 3.11: versions are not the tested ones, and Blender (dkt synth) is left out"
fingerprint >"$stamp"
say "environment complete: .venv"
