"""Learning curves, tables and pages from the files of finished runs."""
