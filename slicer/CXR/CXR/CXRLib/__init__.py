"""What the module CXR does, apart from its widgets: `analysis` runs cxr-dicom, `scene` shows what it made."""
