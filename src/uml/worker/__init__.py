"""The child's side: one process, one model. Started by command line, never imported by the parent."""
