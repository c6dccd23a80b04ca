"""What computes: control, non-zero detection, processing elements, drains."""
