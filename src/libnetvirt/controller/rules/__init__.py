"""From intent to rules: one module for each kind of rule."""
