"""Models that are not here: told from their headers, read by range requests, before anything is downloaded.

    parse(text)        -> UrlName | HubName | None   what a user typed, if it is a name on the net
    opened(name, hub)  -> Remote                     its models, each with a ModelInfo for the asking

Only what a user typed is ever asked for: the command line comes here, the server never does.
"""

from uml.remote.find import Remote, RemoteModel, opened
from uml.remote.hub import Hub
from uml.remote.names import HubName, UrlName, parse

__all__ = ["Hub", "HubName", "Remote", "RemoteModel", "UrlName", "opened", "parse"]
