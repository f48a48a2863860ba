"""A file is a kind of object that the settings may name."""
