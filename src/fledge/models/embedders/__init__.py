"""Frozen networks, and plain arithmetic, whose view of an image is handed to distillation."""
