"""Sphinx's configuration: `make docs` builds the documentation as a site into build/site.

The pages are the repository's Markdown files where they lie, README.md the first of them, so that a
link from file to file is the same on a code host and in the site. A new file of docs/ joins the
navigation's last group by itself; to put it elsewhere, name it below.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "dkt_ros"
release = ElementTree.parse(ROOT / "package.xml").findtext("version") or ""
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/*.md", "dkt_ros/assets/*/MODEL_CARD.md"]
exclude_patterns = [".*", "build", "install", "log", "data", "runs", "demo_output"]  # large
root_doc = "README"
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"dkt_ros {release}"
html_copy_source = False
html_show_copyright = False
html_extra_path = ["site"]
html_static_path = ["static"]
html_css_files = ["tables.css"]

NAVIGATION = {
    "Robot": (
        *("robot", "operators", "cameras", "recipes", "topics", "parameters", "depth"),
        *("troubleshooting", "faults", "container", "security"),
    ),
    "Planners": ("consumers", "planner", "grasp_benchmark"),
    "Lab": ("process", "ray", "view", "tutorial", "evaluation", "python", "commands"),
    "Network": ("model", "training", "tensorrt", "figures", "experiments"),
    "More": (),
}
"""Titles of groups, and the pages of docs/ in them; those that are not there are passed over."""
LAST = ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")


def navigation(root: Path) -> str:
    """The contents of the site's sidebar, in Sphinx's words; root: of the pages."""
    there = {path.stem for path in (root / "docs").glob("*.md")}
    groups = {
        title: [f"docs/{page}" for page in pages if page in there]
        for title, pages in NAVIGATION.items()
    }
    named = {page for pages in NAVIGATION.values() for page in pages}
    cards = sorted(root.glob("dkt_ros/assets/*/MODEL_CARD.md"))
    groups["Network"] += [str(card.relative_to(root).with_suffix("")) for card in cards]
    groups["More"] += [f"docs/{page}" for page in sorted(there - named)] + list(LAST)
    return "\n".join(
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
        for title, pages in groups.items()
        if pages
    )


def commands() -> str:
    """What every `dkt` command says of itself with --help."""
    from dkt_ros.cli import build_parser

    os.environ["COLUMNS"] = "88"  # as wide as the page
    return "\n\n".join(
        f"## {parser.prog}\n\n```text\n{parser.format_help().strip()}\n```"
        for parser in leaves(build_parser())
    )


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all subcommands that have none themselves, in the order of `dkt --help`."""
    choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not choices:
        yield parser
    for subparser in choices[0].values() if choices else ():
        yield from leaves(subparser)


def _complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds to pages what is made while the site is built."""
    if page == root_doc:
        source[0] += "\n" + navigation(Path(app.srcdir))
    if page == "docs/commands":
        source[0] += "\n" + commands()


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _complete)
