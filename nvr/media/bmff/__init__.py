"""ISO base media file format (ISO/IEC 14496-12): boxes, fragments, initialization segments."""
