"""An example plug-in: an engine whose models are texts, its format, a sampler, a processor and a command."""
