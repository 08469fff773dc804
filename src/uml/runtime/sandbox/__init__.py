"""Workers without network, and with files of their own only: what the kernel offers, applied before they begin."""
