"""Out of memory, on the GPU or the CPU, told as a sentence with remedies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segexplorer.core.errors import TrainingError

_TEXTS = ("can't allocate memory", "not enough memory", "CUDA out of memory")
"""What torch says where it raises a plain RuntimeError."""


@contextmanager
def memory_errors_told() -> Iterator[None]:
    """Turn "out of memory" within the block into a sentence.

    Raises
    ------
    TrainingError
        With three remedies.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise TrainingError(
            "There is not enough memory for this step.",
            "Use smaller patches (sampling.patch_size), fewer per batch (sampling.batch_size), "
            "or a smaller network (fewer features); the last checkpoint is kept.",
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in _TEXTS)
