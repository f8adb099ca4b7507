"""A `sitecustomize` that lets PyPI's torchvision be imported beside a CPU build of torch.

PyPI's torchvision is built for the CUDA build of torch. Beside the CPU build, its compiled operators cannot be
loaded, and its import then fails where it describes two of them. nnU-Net imports torchvision through timm and uses
none of its operators, so declaring the two is enough for the tests of its plug-in.
"""

import importlib.abc
import sys


class _Declaration(importlib.abc.MetaPathFinder):
    library = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            _Declaration.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                _Declaration.library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


sys.meta_path.insert(0, _Declaration())
