"""Classes by name: their checksum, and which class of weights each class of data is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence


def classes_checksum(classes: Sequence[str]) -> str:
    """sha256 over the names of classes, in their order."""
    return hashlib.sha256(b"\0".join(os.fsencode(name) for name in classes)).hexdigest()
