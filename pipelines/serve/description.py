"""The OpenAPI description of a server, put together from the parts beside this file."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.release import Release

PARTS = Path(__file__).parent / "openapi"


def openapi(release: Release) -> dict[str, Any]:
    """Return the description: paths and schemas of all parts, this release's outcomes in its words."""
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Anamnesis",
            "version": version("anamnesis"),
            "description": f"Calibrated probabilities of {', '.join(release.registry.names)}. Model {release.model}.",
        },
        "paths": {},
        "components": {"schemas": {}, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
    for path in sorted(PARTS.glob("*.json")):
        part = json.loads(path.read_text(encoding="utf-8"))
        made["paths"] |= part["paths"]
        made["components"]["schemas"] |= part.get("components", {}).get("schemas", {})
    return made
