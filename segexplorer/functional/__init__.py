"""Pure maths on tensors of any rank: overlap, regions, and the scene that the terms of one loss share."""
