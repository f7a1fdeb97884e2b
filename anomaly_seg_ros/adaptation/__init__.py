"""What ordinary frames of a camera say of it: its calibration, how sure, which frames are odd."""
