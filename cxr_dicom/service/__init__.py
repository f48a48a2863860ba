"""The service: workers, couriers and the poller around one spool."""
