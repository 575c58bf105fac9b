"""Detectors as files that other runtimes run: the whole graph, its proof, and its reader."""
