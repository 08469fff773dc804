"""Universal Model Loader: one local server for any model on disk."""

__version__ = "0.1.0"
