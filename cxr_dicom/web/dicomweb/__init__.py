"""DICOMweb over an output folder, read only: QIDO-RS and WADO-RS (PS3.18 10)."""
