"""Models that are not here: told from their headers, read by range requests, before anything is downloaded.

    names.parse(text)       -> HubName | UrlName | None   what a user typed, if it is a name on the net
    find.opened(name, hub)  -> Remote                     its models, each with a ModelInfo for the asking

Only what a user typed is ever asked for: the command line comes here, and a server never does.
"""
