"""What there is to say of a model that can be named: its card, its weights, the package that it comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cxr_dicom.config import Settings
from cxr_dicom.infer import choose, weights
from cxr_dicom.records import ModelInfo


def described(info: ModelInfo, settings: Settings) -> dict[str, Any]:
    """Return the fields of ``info``, and what this machine has of it."""
    choice = choose(info.name, settings)
    files = weights.files(info, settings) if info.weights_file else ()
    lock = weights.read_lock(weights.source_path(info, settings)) if info.weights_file else None
    return asdict(info) | {
        "is_present": weights.is_present(info, settings),
        "bytes": sum(file.stat().st_size for file in files),
        "weights_sha256": lock.checked_sha256 if lock else None,
        "package": choice.package,
        "is_ours": choice.is_ours,
    }
