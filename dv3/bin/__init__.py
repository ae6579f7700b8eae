"""Programs: each module parses flags and calls the library."""
