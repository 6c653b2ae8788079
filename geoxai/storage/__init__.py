"""Files and stores that are whole or not there, in encodings that any reader takes."""
