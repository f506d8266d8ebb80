"""The data plane: the table pipeline, the entries that switches hold, and how the expected state is kept."""
