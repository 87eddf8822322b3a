"""The cluster: the only part of the webhook that speaks to an API server.

``listing`` reads it once, for a person's command. ``connection`` makes the client of the process that follows it, and
``watching`` does the following. ``pods`` reads a namespace's pods when its labels become stricter.
"""
