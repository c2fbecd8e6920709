"""Calibrations in texts that are neither JSON nor YAML, as mappings of names to numbers.

camera_calibration's ini file and what it prints, OpenCV's XML, ZED's conf, librealsense's one line
and what its rs-enumerate-devices -c prints.
Knows how these texts are laid out. Knows nothing of which names make a camera.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

_SECTION = re.compile(r"\[([A-Za-z][\w ]*)\]")
_FIRST_SECTION = re.compile(r"(?:\s|#.*\n)*\[[A-Za-z][\w ]*\]\s*\n")
_PRINTED = re.compile(r"^\s*([KD])\s*=\s*\[([^\]]*)\]", re.M)
_ONE_LINE = re.compile(
    r"(\d+)x(\d+)\s+p\[(\S+) (\S+)\]\s+f\[(\S+) (\S+)\](?:\s+([\w ]+?)\s*\[([^\]]*)\])?"
)
_STREAM = re.compile(r'Intrinsic of "([^"]+)" / (\S+) [^\n]*\n((?:[ \t]+\w[^\n]*\n?)+)')


def parse_calibration(text: str) -> dict[str, Any] | None:
    """What such a text says; None where it is none. Raises ValueError where it is a damaged one."""
    if found := _ONE_LINE.search(text):
        names = ("width", "height", "cx", "cy", "fx", "fy", "model", "coeffs")
        return dict(zip(names, found.groups(""), strict=True))
    if streams := _STREAM.findall(text):
        return _streams(streams)
    printed = dict(_PRINTED.findall(text))
    if "K" in printed:
        return {name.lower(): _numbers(numbers) for name, numbers in printed.items()}
    if _FIRST_SECTION.match(text):
        return _sections(text)
    if text.lstrip().startswith("<?xml"):
        return _xml(text)
    return None


def _sections(text: str) -> dict[str, Any]:
    """By section. The ini file has its images' size in a section of its own, and no "="."""
    sections: dict[str, dict[str, Any]] = {}
    fields: dict[str, Any] = {}
    name = ""
    for line in (line.partition("#")[0].strip() for line in text.splitlines()):
        if found := _SECTION.fullmatch(line):
            fields = sections.setdefault(found[1], {})
        elif "=" in line:
            key, _, value = line.partition("=")
            fields[key.strip()] = value.strip()
        elif line and line[0] in "+-.0123456789":
            fields.setdefault(name, []).extend(_numbers(line))
        elif line:
            name = line.replace(" ", "_")
    size = {key: value[0] for key, value in sections.pop("image", {}).items() if value}
    return {section: size | found for section, found in sections.items()}


def _streams(streams: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The colour camera's, of which pictures are; of a device without one all. By name and size."""
    colour = [entry for entry in streams if entry[0] == "Color"]
    cameras = {}
    for name, size, lines in colour or streams:
        pairs = (line.partition(":") for line in lines.splitlines())
        cameras[f"{name} {size}"] = {key.strip(): value.strip() for key, _, value in pairs}
    return cameras


def _xml(text: str) -> dict[str, Any]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"damaged XML: {error}") from error
    return {
        child.tag: child.text if (data := child.find("data")) is None else _numbers(data.text or "")
        for child in root
    }


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.replace(",", " ").split()]
