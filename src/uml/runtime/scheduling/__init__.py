"""Decisions: which models stay, who leaves, who is served next. No clock, no task, no process."""
