"""The built-in camera and the walk through the main job."""
