"""Training and evaluation of the offline models: development code, not part of the installed package."""
