"""Models: every file without a leading underscore is a choice in the config."""
