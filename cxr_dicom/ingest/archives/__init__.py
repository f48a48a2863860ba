"""A file is a kind of archive that the settings may name."""
