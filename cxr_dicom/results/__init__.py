"""Results for people and programs: rows, tables, reports, and the comparison of two runs."""
