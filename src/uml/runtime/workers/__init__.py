"""A worker's process from the outside: started, limited, watched, spoken to, ended."""
