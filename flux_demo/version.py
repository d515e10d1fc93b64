"""The version: in recipes, in ``/status``, and in ``--version``."""

VERSION = "0.1.0"
