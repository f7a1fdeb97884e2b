"""Makes `dfkde.json`: log densities by anomalib 2.7.0, which no environment of ours holds.

    pip download --no-deps --dest /tmp/anomalib anomalib==2.7.0
    unzip -q /tmp/anomalib/anomalib-2.7.0-py3-none-any.whl -d /tmp/anomalib/source
    .venv/bin/python test/golden/dfkde.py /tmp/anomalib/source

Its packages import far more than these three files need, so each is loaded by itself.
"""

import importlib.util
import json
from pathlib import Path
import sys
import types

import numpy as np
import torch

NORMAL, ASKED, VALUES, COMPONENTS = 40, 8, 12, 5


def load(source: Path, name: str) -> types.ModuleType:
    """Loads a module of anomalib without the packages above it."""
    path = source / Path(*name.split('.')).with_suffix('.py')
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(source: Path) -> None:
    """Writes the file beside this one."""
    parts = 'anomalib.models.components'
    base = load(source, f'{parts}.base.dynamic_buffer')
    for name in ('anomalib', 'anomalib.models', parts, f'{parts}.base'):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[f'{parts}.base'].DynamicBufferMixin = base.DynamicBufferMixin
    sys.modules[parts].PCA = load(source, f'{parts}.dimensionality_reduction.pca').PCA
    sys.modules[parts].GaussianKDE = load(source, f'{parts}.stats.kde').GaussianKDE
    classifier = load(source, f'{parts}.classification.kde_classifier').KDEClassifier(COMPONENTS)
    random = np.random.default_rng(0)
    mixing = random.normal(size=(VALUES, VALUES))
    normal = (random.normal(size=(NORMAL, VALUES)) @ mixing).round(6)
    asked = (random.normal(size=(ASKED, VALUES)) @ mixing).round(6)
    # It changes what it is given.
    classifier.fit(torch.tensor(normal, dtype=torch.float64))
    found = classifier.compute_kde_scores(
        torch.tensor(asked, dtype=torch.float64), as_log_likelihood=True
    )
    golden = {
        'anomalib': '2.7.0',
        'components': COMPONENTS,
        'normal': normal.tolist(),
        'asked': asked.tolist(),
        'max_length': float(classifier.max_length),
        'log_density': found.tolist(),
    }
    Path(__file__).with_suffix('.json').write_text(json.dumps(golden) + '\n')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
