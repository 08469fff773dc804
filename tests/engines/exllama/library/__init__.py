"""Stand-ins for exllamav3, exllamav2 and torch: they take the calls that the real ones take, and refuse all others.

Signatures were read from exllamav3 1.6.5 and exllamav2 0.3.2, without what has a default and is not used here. Every
call is written to standard error. Their model answers with the words of its prompt again, or by chance.
"""
