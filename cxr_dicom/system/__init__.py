"""What the operating system and the network give: durable writes, locks, logs, retry, connections."""
