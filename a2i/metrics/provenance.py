"""What made a score: versions of packages, and a hash by which equal settings are found at a glance."""

import json
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def versions(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed; this project itself is not where it runs from a checkout."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits, the same for the same settings in any order."""
    return sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
