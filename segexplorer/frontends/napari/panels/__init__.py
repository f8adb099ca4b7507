"""The tabs of the dock, in the order of work."""
