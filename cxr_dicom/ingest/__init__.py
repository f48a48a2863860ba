"""The ways in: folders, manifests and the network. Each yields stored instances and studies."""
