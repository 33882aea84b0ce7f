"""An image as base64, for backends that take images. The engine of this project takes text."""

import base64
import io
from pathlib import Path
from typing import Any


def image_base64(image: Any) -> str:
    """A path, a `data:` or http address (kept as it is), bytes, or an image that can be saved.

    Raises `TypeError` for anything else.
    """
    if isinstance(image, str) and image.startswith(("http://", "https://", "data:")):
        return image
    if isinstance(image, str | Path):
        return base64.b64encode(Path(image).read_bytes()).decode()
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    if hasattr(image, "save"):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode()
    raise TypeError(f"an image is a path, bytes or a PIL image, not a {type(image).__name__}")
