"""The scenarios: one module each, with a function ``rows(plan)``."""
