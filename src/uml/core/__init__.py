"""Nouns: frozen dataclasses and the error tree. Standard library only."""
