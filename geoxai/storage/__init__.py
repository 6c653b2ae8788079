"""Files and stores that are complete or absent, in encodings that any reader understands."""
