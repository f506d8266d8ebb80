"""What is measured: one module a scenario, with a function ``rows(plan)``."""
