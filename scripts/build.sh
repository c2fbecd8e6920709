#!/usr/bin/env bash
# Builds the package with colcon into install/ and puts its commands into .venv/bin; needs setup.sh.
#
# The build links to the sources (--symlink-install), so an edit needs no build. It is run again
# when a file came or went, or when what the messages and executables are made from changed.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

stamp=$root/install/.dkt-complete
log=$state/colcon.log

fingerprint() {
  {
    cat "$venv/.dkt-complete" "${BASH_SOURCE[0]}"
    cd "$root" && cat msg/* srv/* action/* CMakeLists.txt package.xml scripts/entry_point.py.in
    find dkt_ros launch config requirements -name __pycache__ -prune -o -print | LC_ALL=C sort
  } | sha256sum | cut -d' ' -f1
}

# A command runs from any shell: its wrapper sources the environment first.
write_command() {
  rm -f "$venv/bin/$1"
  printf '#!/usr/bin/env bash\n. "%s/scripts/env.sh"\nexec "%s/install/dkt_ros/lib/dkt_ros/%s" "$@"\n' \
    "$root" "$root" "$1" >"$venv/bin/$1"
  chmod +x "$venv/bin/$1"
}

complete=$(fingerprint)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$complete" ]; then exit 0; fi

say "building the package with colcon"
mkdir -p "$state"
rm -f "$stamp"
# shellcheck source=scripts/env.sh
. "$root/scripts/env.sh"
cd "$root"
colcon --log-level error build --symlink-install --base-paths "$root" \
  --cmake-args "-DPython3_EXECUTABLE=$venv/bin/python" -DBUILD_TESTING=OFF \
  >"$log" 2>&1 </dev/null || {
  tail -n 30 "$log" >&2
  fail "colcon could not build the package." "The whole log: .setup/colcon.log" \
    "If build/ is of another environment: make clean, then make again"
}
find install -xtype l -delete # links to sources that are gone
for command in dkt dkt_cameras dkt_node dkt_planner dkt_replay; do write_command "$command"; done
echo "$complete" >"$stamp"
say "built. In a new shell: source scripts/env.sh, then dkt doctor"
