"""`python -m anomaly_seg_ros` is the command `anomaly_seg`."""

import sys

from .cli import main

if __name__ == '__main__':
    sys.exit(main())
