"""The public wire: one server that every client speaks to."""
