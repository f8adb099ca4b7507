"""The tabs of the dock: each is a file here, or comes from another package by entry point.

The guide docs/how-to/add-a-panel.md shows both. The dock calls `discover`, since our own panels import Qt, which
the declaration of a plug-in's panel must not need.
"""
