"""The controller itself: operations, topology events and reconciliation with switches."""
