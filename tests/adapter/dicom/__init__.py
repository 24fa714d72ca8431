"""DICOM: the door, receiving, and volumes."""
