"""The gateway's API as Python: the only door that faces use. Synchronous, light to import."""

from uml.client.client import Client
from uml.client.errors import from_wire
from uml.client.find import ServerFile, find_server, read_server_file
from uml.client.piece import Piece

__all__ = ["Client", "Piece", "ServerFile", "find_server", "from_wire", "read_server_file"]
