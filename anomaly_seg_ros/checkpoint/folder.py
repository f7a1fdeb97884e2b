"""The checkpoint folder: `meta.json` beside `weights.safetensors`, loaded strictly.

Importing this file needs neither torch nor safetensors, so that a robot without torch can read
what it needs to run an exported engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
import hashlib
import json
import math
from pathlib import Path
from typing import Any, TYPE_CHECKING

from anomaly_seg_ros.calibration import Calibration

if TYPE_CHECKING:
    from torch import nn, Tensor

FORMAT = 1
META_FILE = 'meta.json'
WEIGHTS_FILE = 'weights.safetensors'
SCORE_PREFIX = 'score.'
"""Of the keys that scores have in the weights file; no network has such keys."""

DEFAULT = 'default'
DEFAULT_FOLDER = Path(__file__).parents[1] / 'checkpoints' / 'default'


@dataclass(frozen=True, kw_only=True)
class CheckpointMeta:
    """What must travel with the weights to use them rightly.

    Attributes:
        model: A key of `MODELS`.
        model_options: Keyword arguments of the network's constructor.
        class_names: Names in train-id order, void not among them.
        class_colors: RGB 0..255 of each class.
        gamma: Exponent on the image in 0..1 before `mean` and `std`; below 1 brightens it.
        mean: RGB mean that is subtracted from an image in 0..1.
        std: RGB standard deviation that it is divided by.
        input_size: (height, width) the network was trained for.
        void_index: Index of the void channel in the network's own output, or None.
        score: The anomaly score used when none is asked for.
        temperature: Divides the logits where a score is made of class probabilities.
        score_options: Score name to keyword arguments of the score, where not the default.
        fitted: Score name to the data set and split whose statistics the weights file holds.
        calibrations: Score name to its calibration on normal validation pixels.
        thresholds: Score name to the calibrated value (0..1) above which a pixel is anomalous.
        trained_on: Data sets and splits the weights have seen.
        training: How the weights were made: recipe, selection, measured quality.
        commit: Commit of the code that wrote the folder.
        format: Version of this layout.
    """

    model: str
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]
    model_options: dict[str, Any] = field(default_factory=dict)
    void_index: int | None = None
    gamma: float = 1.0
    score: str = 'max_logit'
    temperature: float = 1.0
    score_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    fitted: dict[str, str] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    commit: str = ''
    format: int = FORMAT

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.class_colors):
            raise ValueError(
                f'{len(self.class_names)} class_names but {len(self.class_colors)} class_colors'
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f'mean {self.mean} and std {self.std} must be three numbers, std > 0')
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ValueError(f'input_size {self.input_size} must be (height, width)')
        if self.void_index is not None and not 0 <= self.void_index <= len(self.class_names):
            raise ValueError(f'void_index {self.void_index} is outside of the network output')
        if not 0 < self.gamma < math.inf:
            raise ValueError(f'gamma {self.gamma} must be above 0')
        if not 0 < self.temperature < math.inf:
            raise ValueError(f'temperature {self.temperature} must be above 0')

    @property
    def channels(self) -> int:
        """Channels of the network's own output: the classes, and void where it is trained."""
        return len(self.class_names) + (self.void_index is not None)

    def to_json(self) -> str:
        """Gives the text of `meta.json`."""
        values = asdict(self)
        values['calibrations'] = {k: list(c.levels) for k, c in self.calibrations.items()}
        return json.dumps(values, indent=1) + '\n'

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> CheckpointMeta:
        """Builds the meta data from parsed JSON.

        Raises:
            ValueError: A key is missing or unknown, a value does not fit, or another format.
        """
        if values.get('format') != FORMAT:
            raise ValueError(
                f'checkpoint format {values.get("format")!r} is not {FORMAT}; make it again with '
                'import_weights or train'
            )
        known = {f.name for f in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f'unknown keys {unknown} in {META_FILE}')
        try:
            return cls(
                **{
                    **values,
                    'class_names': tuple(values['class_names']),
                    'class_colors': tuple(tuple(color) for color in values['class_colors']),
                    'mean': tuple(values['mean']),
                    'std': tuple(values['std']),
                    'input_size': tuple(values['input_size']),
                    'trained_on': tuple(values.get('trained_on', ())),
                    'calibrations': {
                        score: Calibration(tuple(levels))
                        for score, levels in values.get('calibrations', {}).items()
                    },
                }
            )
        except KeyError as error:
            raise ValueError(f'key {error} is missing in {META_FILE}') from None
        except (TypeError, AttributeError) as error:
            raise ValueError(f'{META_FILE} does not fit: {error}') from None


def resolve_checkpoint(name: str | Path) -> Path:
    """Gives the folder of a checkpoint; the word 'default' means the one in the package.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    folder = DEFAULT_FOLDER if str(name) == DEFAULT else Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f'no checkpoint folder {str(folder)!r}; give a folder made by train or '
            f"import_weights, or 'default'"
        )
    return folder


def read_meta(folder: Path) -> CheckpointMeta:
    """Reads the meta data of a checkpoint folder.

    Raises:
        FileNotFoundError: No `meta.json` there.
        ValueError: It is not one of ours; the text names the file and what is wrong.
    """
    path = folder / META_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{str(folder)!r} is no checkpoint folder: it has no {META_FILE}; public weights '
            'files become one by import_weights'
        )
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(values, dict):
            raise ValueError('it holds no JSON object')
        return CheckpointMeta.from_mapping(values)
    except ValueError as error:
        raise ValueError(f'cannot use {str(path)!r}: {error}') from None


def weights_hash(folder: Path) -> str:
    """Gives the sha256 of the weights file and of the meta data that shape the graph.

    An engine that was exported from this checkpoint carries the same value.
    """
    digest = hashlib.sha256(_weights_path(folder).read_bytes())
    meta = read_meta(folder)
    graph: list[Any] = [meta.model, meta.model_options, meta.mean, meta.std, meta.void_index]
    if meta.temperature != 1:
        graph.append(meta.temperature)
    if meta.gamma != 1:
        graph.append({'gamma': meta.gamma})
    if meta.score_options:
        graph.append({'score_options': meta.score_options})
    digest.update(json.dumps(graph, sort_keys=True).encode())
    return digest.hexdigest()


def _weights_path(folder: Path) -> Path:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {str(folder)!r} has no {WEIGHTS_FILE}')
    refuse_lfs_pointer(path)
    return path


def refuse_lfs_pointer(path: Path) -> None:
    """Refuses the small text that stands for a big file until git-lfs has fetched it.

    Raises:
        ValueError: It is one.
    """
    with path.open('rb') as file:
        if file.read(12) == b'version http':
            raise ValueError(f"{str(path)!r} is only a git-lfs pointer; run 'git lfs pull'")


def save_checkpoint(folder: Path, meta: CheckpointMeta, weights: Mapping[str, Tensor]) -> None:
    """Writes a checkpoint folder; an existing one is replaced file by file, each at once.

    Args:
        folder: Made if missing.
        meta: Meta data.
        weights: State dict of the network that `meta` describes.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    save_file(tensors, folder / f'{WEIGHTS_FILE}.part')
    (folder / f'{WEIGHTS_FILE}.part').replace(folder / WEIGHTS_FILE)
    write_meta(folder, meta)


def write_meta(folder: Path, meta: CheckpointMeta) -> None:
    """Writes `meta.json` alone, at once."""
    part = folder / f'{META_FILE}.part'
    part.write_text(meta.to_json(), encoding='utf-8')
    part.replace(folder / META_FILE)


def update_meta(folder: Path, **changes: Any) -> CheckpointMeta:
    """Changes fields of a checkpoint's meta data on disk and gives the result."""
    meta = replace(read_meta(folder), **changes)
    write_meta(folder, meta)
    return meta


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Reads the network's weights of a checkpoint as float32 tensors on the CPU.

    Raises:
        FileNotFoundError: No weights file.
        ValueError: It is truncated, a git-lfs pointer, not safetensors, or not finite.
    """
    return _read_tensors(folder, lambda key: not key.startswith(SCORE_PREFIX))


def read_statistics(folder: Path, score: str) -> dict[str, Tensor]:
    """Reads what `fit_score` stored of a score, by the names of its buffers; empty if nothing.

    Raises:
        FileNotFoundError: No weights file.
        ValueError: It is truncated, a git-lfs pointer, not safetensors, or not finite.
    """
    prefix = f'{SCORE_PREFIX}{score}.'
    tensors = _read_tensors(folder, lambda key: key.startswith(prefix))
    return {key[len(prefix) :]: value for key, value in tensors.items()}


def _read_tensors(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Reads some tensors of the weights file, floating point ones as float32."""
    from safetensors import safe_open, SafetensorError

    path = _weights_path(folder)
    tensors = {}
    try:
        with safe_open(path, framework='pt') as file:
            for key in filter(wanted, file.keys()):
                tensors[key] = file.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(
            f'cannot read {str(path)!r}: {error}; the file is truncated or no safetensors file'
        ) from None
    for key, value in tensors.items():
        if value.is_floating_point():
            if not bool(value.isfinite().all()):
                raise ValueError(
                    f'weight {key!r} in {str(path)!r} is not finite (NaN or infinite)'
                )
            tensors[key] = value.float()
    return tensors


def save_statistics(
    folder: Path, statistics: Mapping[str, Mapping[str, Tensor] | None], fitted_on: str
) -> CheckpointMeta:
    """Puts statistics of scores into a checkpoint; all else in it stays bit for bit.

    Args:
        folder: A checkpoint folder.
        statistics: Score name to its buffers; None removes those that the checkpoint has.
        fitted_on: Data set and split.

    Returns:
        The new meta data, as written.
    """
    from safetensors.torch import load_file

    meta = read_meta(folder)
    replaced = tuple(f'{SCORE_PREFIX}{score}.' for score in statistics)
    stored = load_file(_weights_path(folder))
    tensors = {key: value for key, value in stored.items() if not key.startswith(replaced)}
    fitted = {score: on for score, on in meta.fitted.items() if score not in statistics}
    for score, buffers in statistics.items():
        for key, value in (buffers or {}).items():
            tensors[f'{SCORE_PREFIX}{score}.{key}'] = value
        if buffers:
            fitted[score] = fitted_on
    meta = replace(meta, fitted=fitted)
    save_checkpoint(folder, meta, tensors)
    return meta


def load_state(
    model: nn.Module, weights: Mapping[str, Tensor], source: str, new: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Loads weights into a network, strictly.

    Batch counters (`num_batches_tracked`) may be absent on either side, and so may heads that
    the network's `train_only_prefixes` names; anything else must match by key and shape.

    Args:
        model: Takes the weights.
        weights: State dict.
        source: What the weights are, for the error text.
        new: State-dict prefixes of heads that a fine-tune may start afresh. Where the weights
            lack such a head or hold another one (a key or a shape differs), the whole head keeps
            what it has, and the weights of the other head are not used.

    Returns:
        Those of `new` that the network has and that started afresh.

    Raises:
        ValueError: Keys are missing, left over, or of another shape; the text names some.
    """
    own = model.state_dict()
    optional = tuple(getattr(model, 'train_only_prefixes', ()))

    def required(keys: set[str]) -> list[str]:
        return sorted(
            key
            for key in keys
            if not key.endswith('num_batches_tracked') and not key.startswith(optional)
        )

    missing = required(own.keys() - weights.keys())
    surplus = required(weights.keys() - own.keys())
    shared = own.keys() & weights.keys()
    shapes = sorted(key for key in shared if weights[key].shape != own[key].shape)
    fresh = tuple(
        prefix
        for prefix in new
        if any(key.startswith(prefix) for key in (*missing, *surplus, *shapes))
    )
    described = [
        f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
        for key in shapes
        if not key.startswith(fresh)
    ]
    problems = [
        f'{len(found)} {what} ({", ".join(found[:3])}{", ..." if len(found) > 3 else ""})'
        for what, found in (
            ('keys missing', [key for key in missing if not key.startswith(fresh)]),
            ('keys unexpected', [key for key in surplus if not key.startswith(fresh)]),
            ('shapes differ', described),
        )
        if found
    ]
    if problems:
        raise ValueError(
            f'{source} does not fit {type(model).__name__}: {"; ".join(problems)}; '
            f'{len(shared) - len(shapes)} of {len(own)} tensors match'
        )
    model.load_state_dict(
        {key: weights[key] for key in shared if not key.startswith(fresh)}, strict=False
    )
    return tuple(prefix for prefix in fresh if any(key.startswith(prefix) for key in own))


def load_checkpoint(folder: Path) -> tuple[nn.Module, CheckpointMeta]:
    """Builds the network of a checkpoint, in evaluation mode, with its weights.

    Raises:
        FileNotFoundError: The folder or a file in it is missing.
        ValueError: Wrong, truncated or foreign content; the text says which.
    """
    from anomaly_seg_ros.models import build_model

    meta = read_meta(folder)
    model = build_model(meta.model, meta.channels, meta.model_options)
    load_state(model, read_weights(folder), f'checkpoint {str(folder)!r}')
    return model.eval(), meta
