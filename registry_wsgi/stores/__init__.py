"""Storage: bytes and names, no policy. One module a kind; ``base`` says what they share."""
