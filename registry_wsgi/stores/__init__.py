"""Storage: bytes and names, and no policy. One module for each kind, `base` says what they share."""
