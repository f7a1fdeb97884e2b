"""Names of what a training run leaves in its folder."""

from __future__ import annotations

CONFIG_FILE = 'config.json'
"""The whole recipe."""

TABLE_FILE = 'metrics.csv'
"""One row an epoch."""

LAST_FILE = 'last.ckpt'
"""The state that `--resume` goes on from."""

KEPT_FOLDER = 'checkpoint'
"""The checkpoint folder of the weights that are kept."""

OBJECTIVE_FILE = 'objective.safetensors'
"""The state of an objective that has one."""
