"""From files to a scene."""
