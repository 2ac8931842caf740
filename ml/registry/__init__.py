"""Models by the hash of their bytes, which of them are in force, and how two of them compare."""
