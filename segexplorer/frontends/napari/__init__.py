"""The napari frontend: reader, writer, samples, the layers of a case, and the dock.

Only the main thread touches napari or Qt. Arrays are prepared by pure functions (`viewmodels.layer_images`)
that a worker calls; `layers` assigns them.
"""
