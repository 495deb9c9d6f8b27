"""Lets a torchvision wheel built for CUDA be imported beside a CPU build of torch.

What it fixes: torchvision 0.28 declares meta kernels for ``torchvision::nms`` at import, but its compiled library,
which would define that operator, cannot load beside a CPU torch: ``operator torchvision::nms does not exist``. Nothing
here calls ``nms``; declaring the two schemas is enough. On a machine where torchvision imports, this does nothing.

This file imports nothing but the standard library: :mod:`verl_ext.install` copies it into site-packages, where a
``.pth`` line runs it at every interpreter start, because Ray and vLLM start processes whose first import is not ours.
"""

import sys
from importlib.machinery import PathFinder

_MISSING = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _RetryingLoader:
    """Runs torchvision's own loader; on the one known failure declares the schemas and runs it again."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if _MISSING not in str(error):
                raise
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for schema in _SCHEMAS:
                library.define(schema)
            # The definitions live as long as this object does.
            sys.modules[__name__]._library = library
            for name in [name for name in sys.modules if name.startswith("torchvision.")]:
                del sys.modules[name]
            self._loader.exec_module(module)


class _TorchvisionFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RetryingLoader(spec.loader)
        return spec


def install() -> None:
    """Put the finder first on ``sys.meta_path``; a second call changes nothing."""
    if not any(getattr(finder, "__name__", "") == "_TorchvisionFinder" for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder)


install()
