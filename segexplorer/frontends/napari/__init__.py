"""The napari face: reader, writer, samples, the picture of a case in layers, and the dock.

Only the main thread touches napari or Qt. Arrays are prepared by pure functions (`pictures`) that a worker calls;
`layers` assigns them.
"""
