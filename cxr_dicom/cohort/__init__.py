"""Many studies through one task: entries become states, states become result files."""
