"""Rule compilers: one module for each kind of flow entry that networks need."""
