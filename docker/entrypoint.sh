#!/usr/bin/env bash
# Sources ROS and this package, then becomes the command, so that signals reach it.
set -e
# shellcheck disable=SC1090
source "/opt/ros/${ROS_DISTRO}/setup.bash"
# shellcheck source=scripts/env.sh
source /opt/dkt_ros/scripts/env.sh
exec "$@"
