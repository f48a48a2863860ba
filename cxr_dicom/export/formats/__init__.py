"""A file is a format that the settings may name."""
