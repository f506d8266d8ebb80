"""How rules look in a switch: the pipeline of tables, entries, and what each switch should hold."""
