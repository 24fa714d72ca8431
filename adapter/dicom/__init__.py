"""DICOM: ask the archive, receive into our own Storage SCP, read a series as a volume. `pacs.Pacs` is the door."""
