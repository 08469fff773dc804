"""Models made of others: one file for each format that something is made into."""
