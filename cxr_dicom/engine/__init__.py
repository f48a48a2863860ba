"""Many items through one task: worker processes on this machine, or Ray. A file is a choice, as in ``infer``."""
