"""What survives a crash: spool, ledger and audit trail."""
