"""Bytes on disk to batches: readers, images, transforms, sampling, synthetic scenes."""
