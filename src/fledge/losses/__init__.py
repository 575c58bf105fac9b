"""Per-element losses."""
