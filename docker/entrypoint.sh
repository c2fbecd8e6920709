#!/usr/bin/env bash
# Sources ROS and this package, then becomes the command, so that signals reach it.
set -e
# shellcheck disable=SC1090
source "/opt/ros/${ROS_DISTRO}/setup.bash"
# shellcheck source=scripts/env.sh
source /opt/dkt_ros/scripts/env.sh
# Kilted's Fast DDS knows both names, and loads a file twice that both name.
case $ROS_DISTRO in humble | iron | jazzy) variable=FASTRTPS_DEFAULT_PROFILES_FILE ;; *) variable=FASTDDS_DEFAULT_PROFILES_FILE ;; esac
export "$variable=${!variable:-/opt/dkt_ros/config/fastdds.xml}"
exec "$@"
