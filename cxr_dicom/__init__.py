"""Artificial intelligence on chest radiographs that lives inside DICOM."""

__version__ = "0.1.0"
