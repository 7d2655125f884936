"""The telemetry plane: one process that turns exchanges into calls and owns all state."""
