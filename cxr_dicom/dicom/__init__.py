"""DICOM files, pixels and codes, as far as pydicom leaves them to us."""
