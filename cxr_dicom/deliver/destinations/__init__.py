"""A file is a kind of destination that the settings may name."""
