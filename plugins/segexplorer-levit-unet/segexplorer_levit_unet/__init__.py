"""LeViT-UNet for segexplorer. Importing this registers the network `levit_unet`; neither torch nor transformers."""

from segexplorer_levit_unet.spec import LeViTUNet

__all__ = ["LeViTUNet"]
