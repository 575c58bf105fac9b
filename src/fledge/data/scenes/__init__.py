"""Images without boxes: scenes with a class each, masks of classes, and images without any label."""
