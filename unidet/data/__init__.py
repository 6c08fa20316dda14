"""Data: readers, transforms, the loader, generated scenes and tools. NumPy and OpenCV only."""
