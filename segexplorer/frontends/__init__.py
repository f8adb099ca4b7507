"""What people touch: forms, command line, notebook and napari; they never import each other."""
