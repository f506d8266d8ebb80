"""The drivers, one package each. They are found by entry points and never import each other."""
