"""Ways in: folder, and later the network; each gives stored instances and studies."""
