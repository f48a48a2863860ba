"""A file is an engine that ``--engine`` may name."""
