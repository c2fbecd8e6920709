"""What stands around a report as one HTML file that needs no network."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

_ASSETS = Path(__file__).parent / "assets" / "report"


def page(title: str, words: str, body: str, footer: str, data: Any = None) -> str:
    """The file. body: HTML, the rest is text; data: what page.js shows in it, None for nothing."""
    return Template((_ASSETS / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=(_ASSETS / "page.css").read_text(encoding="utf-8"),
        script="" if data is None else (_ASSETS / "page.js").read_text(encoding="utf-8"),
        words=f"<p>{escape(words)}</p>",
        body=body,
        footer=escape(footer),
        # No "</script>" may stand in it.
        data=json.dumps(data).replace("<", "\\u003c"),
    )
