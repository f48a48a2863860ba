"""Ways out: one file per kind of destination; each sends files as they are and returns receipts."""
