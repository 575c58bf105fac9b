"""Pictures and pages: boxes on images, charts, self-contained reports."""
