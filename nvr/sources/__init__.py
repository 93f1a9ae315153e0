"""What cameras say of themselves by their own ONVIF services."""
