"""Segment Anything (SAM) and MobileSAM: image embeddings, and masks from points and boxes."""
