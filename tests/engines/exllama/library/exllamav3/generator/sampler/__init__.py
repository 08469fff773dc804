"""A folder of exllamav3."""
