"""Reads the version from package.xml, where ROS keeps it; most else stands in pyproject.toml."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import setup

setup(
    license="Apache-2.0",
    version=ElementTree.parse(Path(__file__).with_name("package.xml")).findtext("version"),
)
