"""How values show themselves in a notebook: the pixels as PNG, and the facts folded under them. Standard library only."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def png(image: Image) -> bytes:
    """The image as a PNG file's bytes, without text chunks."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def figure(image_png: bytes, caption: str, summary: str, facts: Mapping[str, Any]) -> str:
    """HTML of a PNG with its caption, and the facts as folded JSON. Every text is escaped."""
    source = base64.b64encode(image_png).decode("ascii")
    folded = html.escape(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
    return (
        f'<figure style="margin:0"><img alt="{html.escape(caption)}" src="data:image/png;base64,{source}" style="max-width:100%">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        f'<details><summary>{html.escape(summary)}</summary><pre style="white-space:pre-wrap">{folded}</pre></details>'
    )
