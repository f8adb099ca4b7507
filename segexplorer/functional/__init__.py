"""Pure maths on tensors with 1 to 3 spatial axes: overlap, regions, and the inputs that a loss's terms share."""
