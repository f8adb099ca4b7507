"""DICOM: series, archives, multi-frame images, segmentations and contours."""

from __future__ import annotations

from segexplorer.data.formats.dicom.reader import read_dicom
from segexplorer.data.formats.dicom.seg import write_seg
from segexplorer.data.formats.registry import Format, formats

formats.register(
    Format(
        name="DICOM",
        suffixes=(".dcm", ".dicom", ".ima", ".zip"),
        reader=read_dicom,
        writer=write_seg,
        writes=(".dcm",),
        library="pydicom, SimpleITK, Pillow, highdicom",
        named=True,
        like=True,
        folders=True,
        magic=(128, b"DICM"),
    )
)
