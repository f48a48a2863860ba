"""Why an ONNX file is not run."""

from __future__ import annotations


class RefusedError(Exception):
    """What was found in a file that no runtime may see; a text for the end of a sentence."""
