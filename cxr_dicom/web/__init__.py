"""Pages for a browser: on an output folder (`view`), or on the running service (`serve`)."""
