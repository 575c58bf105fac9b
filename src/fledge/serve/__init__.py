"""A detector as a small HTTP service (extra ``serve``)."""
