"""A network video recorder with the device side of IEC 62676-2-32 (ONVIF Profile G)."""

__version__ = "0.1.0"
