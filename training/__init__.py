"""How the mini FLUX was made: a renderer of scenes, the training stages, the evaluation. Importing this loads nothing heavy."""


class Refused(Exception):
    """A stage cannot run as it was asked to. The message says why, and what to do."""
