"""DICOM: series, archives, multi-frame images, segmentations and contours."""
