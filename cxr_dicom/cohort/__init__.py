"""Many studies through one task: entries to states, states to result files."""
