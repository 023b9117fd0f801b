"""What the tests share; each module has one purpose, which its first line says."""
