"""Measures of the street and the train ids of what stands in it."""

STEP_M = 0.4
"""Way between two frames: 12 m/s at 30 frames a second."""
PERIOD_M = 96.0
"""Facades and road surface repeat after this way; what stands on them does not."""
LEFT_M, RIGHT_M = -6.4, 9.6  # facades; the camera is at 0
KERB_LEFT_M, KERB_RIGHT_M = -4.0, 7.6
CENTRE_M = 1.95
WALL_TOP_M = 14.0

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN = range(10)
ODD, EMPTY = 254, 253
