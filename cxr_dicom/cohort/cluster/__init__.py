"""Workers on the machines of a Ray cluster: the connection, the worker's side, and who is given what."""
