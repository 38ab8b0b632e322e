"""Where the base models that travel inside the package lie."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_FOLDER = Path(__file__).parent / "weights"
