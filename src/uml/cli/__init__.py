"""The command line: commands compute a result, one renderer speaks."""
