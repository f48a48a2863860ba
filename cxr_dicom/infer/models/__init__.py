"""A file declares one model or several that the settings may name."""
