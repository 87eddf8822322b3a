"""The one error family of the lab."""


class LabError(Exception):
    """What a person reads when the lab cannot go on: one sentence with the object, what was found and the way out."""
