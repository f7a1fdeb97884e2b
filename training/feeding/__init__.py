"""What a step learns from: frames in an order of their own, augmented, outliers pasted in."""
