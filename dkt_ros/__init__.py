"""Metric depth of transparent and reflective objects for ROS 2."""

# The generated messages (dkt_ros.msg) lie in the colcon install folder, beside a copy of these
# sources: with both on the path, one package is made of the two, whichever comes first.
from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
