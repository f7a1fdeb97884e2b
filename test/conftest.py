"""Fixtures: ROS on its own, a camera and a listener beside the node, fake and tiny networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import itertools
import os
from pathlib import Path
import shutil
import signal
import tempfile
import threading
import time
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
import pytest

from anomaly_seg_ros.calibration import Calibration
from anomaly_seg_ros.checkpoint.folder import Checkpoint, WEIGHTS_FILE
from anomaly_seg_ros.checkpoint.meta import CheckpointMeta, write_meta
from anomaly_seg_ros.classes import CAMVID
from anomaly_seg_ros.commands.make_bag import of_files, write_bag
from anomaly_seg_ros.frames.images import write_image
from anomaly_seg_ros.node import middleware_profile
from anomaly_seg_ros.node.statistics import UNPROCESSED
from anomaly_seg_ros.prediction import check_engine_input, Prediction
from anomaly_seg_ros.process.signal_stack import signal_stack

if TYPE_CHECKING:
    from rclpy.node import Node

    from anomaly_seg_ros.engines.building import BuildNotice
    from anomaly_seg_ros.ros.node import AnomalySegNode

ROOT = Path(__file__).resolve().parent.parent
NO_TENSORS = (2).to_bytes(8, 'little') + b'{}'
"""A safetensors file without any."""

DEADLINE_S = 20.0
"""Of everything that is waited for; a loaded machine of two cores needs seconds at times."""

_log_folder = tempfile.TemporaryDirectory(
    prefix='anomaly_seg_ros_log_', ignore_cleanup_errors=True
)


def _isolate_ros() -> None:
    """Nobody else's nodes, no multicast, Humble's field checks; before the first rclpy.init."""
    os.environ.update(
        ROS_DOMAIN_ID=str(os.getpid() % 60 + 41),
        ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        ROS_LOCALHOST_ONLY='1',
        ROS_LOG_DIR=_log_folder.name,
        ROS_PYTHON_CHECK_FIELDS='1',
    )
    os.environ.update(middleware_profile.shm_profile_environment().variables)


def _hear_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _share_cores() -> None:
    """Gives each of pytest's processes its part: torch's threads stall where they are too many.

    Not the process that starts them: they would take over what it has.
    """
    if processes := int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '0')):
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault('OMP_NUM_THREADS', str(max(1, cores // processes)))


_isolate_ros()
_hear_interrupts()
_share_cores()


@pytest.fixture(autouse=True)
def _same_signal_stack() -> Iterator[None]:
    """Finds the test behind which the next time-out would be a segmentation fault."""
    before = signal_stack()
    yield
    assert signal_stack() == before


LEAST_ARGUMENTS = {
    'demo': [],
    'predict': ['x.png'],
    'adapt': ['x'],
    'check': ['--dataset', 'camvid', '--root', 'x'],
    'convert': ['labelme', 'x'],
    'train': ['x.yaml'],
    'train_flow': ['x.yaml'],
    'fit_score': ['--checkpoint', 'x', '--score', 'msp', '--dataset', 'camvid', '--root', 'x'],
    'evaluate': [],
    'report': ['x'],
    'benchmark': [],
    'import_weights': ['x.pth', '--model', 'enet'],
    'bag': ['x'],
    'make_bag': ['x'],
    'export': ['--checkpoint', 'x'],
}
"""What each verb cannot be typed without, but for `--out`; there is no file of such a name."""


@pytest.fixture(scope='session')
def least_arguments() -> dict[str, list[str]]:
    return LEAST_ARGUMENTS


@pytest.fixture(scope='session')
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """CamVid's layout with made frames: sky above, road below left, unlabelled below right."""
    root = tmp_path / 'camvid'
    for split, count in (('train', 6), ('val', 2), ('test', 2)):
        (root / split).mkdir(parents=True)
        (root / f'{split}annot').mkdir()
        for index in range(count):
            random = np.random.default_rng((len(split), index))
            labels = np.zeros((72, 96), np.uint8)
            labels[36:, :48], labels[36:, 48:] = 3, 11
            image = np.array([[230, 220, 210], [0] * 3, [0] * 3, [70, 60, 60]] + [[128] * 3] * 8)
            frame = image[labels] + random.integers(-20, 20, (72, 96, 3))
            name, bgr = f'{index:03d}.png', frame.astype(np.uint8)
            write_image(root / split / name, bgr[..., ::-1])
            write_image(root / f'{split}annot' / name, labels)
    return root


@pytest.fixture(scope='session')
def camvid_test() -> list[Path]:
    """The images of CamVid's test split; skips where they are not."""
    folder = ROOT.parent / 'shared' / 'data' / 'camvid' / 'test'
    images = sorted(folder.glob('*.jpg')) + sorted(folder.glob('*.png'))
    if not images:
        pytest.skip(f'no CamVid test images in {folder}')
    return images


OUTWARDS = """
import os, sys
WATCHED = (
    'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.exec', 'os.system', 'subprocess.Popen',
    'socket.connect', 'socket.bind', 'socket.sendto', 'socket.sendmsg', 'socket.getaddrinfo',
    'socket.gethostbyname', 'urllib.Request',
)
log = os.open(os.environ['OUTWARDS_LOG'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def tell(event, arguments):
    if event in WATCHED:
        os.write(log, f'{event} {arguments!r:.200}\\n'.encode())
sys.addaudithook(tell)
tell('socket.bind', 'the watch is on')
"""


@pytest.fixture
def outwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Watches the Python processes that are started from now on.

    Gives a function that tells which of them began a process or used a socket, other than to ask
    git for the commit, and which files stand in their home folder.
    """
    home, hook, log = tmp_path / 'home', tmp_path / 'hook', tmp_path / 'outwards.log'
    home.mkdir()
    hook.mkdir()
    (hook / 'sitecustomize.py').write_text(OUTWARDS, encoding='utf-8')
    for name, value in (('HOME', home), ('PYTHONPATH', hook), ('OUTWARDS_LOG', log)):
        monkeypatch.setenv(name, str(value))

    def found() -> list[str]:
        lines = log.read_text(encoding='utf-8').splitlines()
        assert 'the watch is on' in lines[0]
        told = [line for line in lines if 'the watch is on' not in line]
        told = [line for line in told if not line.startswith("subprocess.Popen ('git'")]
        return told + [str(path) for path in home.rglob('*') if path.is_file()]

    return found


# --- networks ------------------------------------------------------------------------------------


class FakeEngine:
    """A network whose answer can be worked out by hand.

    The label of a pixel is its red value modulo 11, its raw score is green / 25.5 - 5 (-5..5). Of
    the whole frame it gives mean and deviation of each colour.

    Attributes:
        latency_s: How long `infer` takes.
        gate: `infer` waits until it is set.
        fault: What `infer` raises, if anything.
        seen: Blue value of the first pixel of each image that came in.
    """

    def __init__(self, input_size: tuple[int, int] = (24, 32), score: str = 'max_logit'):
        self.name = 'fake'
        self.score_name = score
        self.precision = 'fp32'
        self.input_size = input_size
        self.device = 'GPU of paper'
        self.description = 'fake engine'
        self.reason = "engine 'fake': made for tests"
        self.latency_s = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.seen: list[int] = []
        self.closed = 0

    def infer(self, image: NDArray[np.uint8]) -> Prediction:
        check_engine_input(image, self.input_size)
        self.seen.append(int(image[0, 0, 2]))
        assert self.gate.wait(DEADLINE_S)
        time.sleep(self.latency_s)
        if self.fault is not None:
            raise self.fault
        score = image[..., 1].astype(np.float32) / np.float32(25.5) - 5
        frame = np.concatenate([image.mean((0, 1)), image.std((0, 1))]).astype(np.float32)
        return Prediction(image[..., 0] % np.uint8(11), score, frame)

    def infer_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        return [self.infer(image) for image in images]

    def close(self) -> None:
        self.closed += 1


def fake_meta(**changes: Any) -> CheckpointMeta:
    """CamVid's classes, a calibration in which raw -5..5 is share 0..1, threshold 0.9."""
    values: dict[str, Any] = {
        'model': 'bisenetv2',
        'class_names': CAMVID.names,
        'class_colors': CAMVID.colors,
        'mean': (0.5, 0.5, 0.5),
        'std': (0.25, 0.25, 0.25),
        'input_size': (24, 32),
        'score': 'max_logit',
        'calibrations': {'max_logit': Calibration.fit(np.linspace(-5, 5, 100_001))},
        'thresholds': {'max_logit': 0.9},
        'trained_on': ('nothing',),
    }
    return CheckpointMeta(**{**values, **changes})


@pytest.fixture(scope='session')
def make_fake_engine() -> Callable[..., FakeEngine]:
    return FakeEngine


@pytest.fixture
def fake_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope='session')
def make_fake_meta() -> Callable[..., CheckpointMeta]:
    return fake_meta


@pytest.fixture
def fake_checkpoint(tmp_path: Path) -> Path:
    """A folder that the node takes as long as no real engine reads its weights; needs no torch."""
    folder = tmp_path / 'fake_checkpoint'
    folder.mkdir()
    write_meta(folder, fake_meta())
    (folder / WEIGHTS_FILE).write_bytes(NO_TENSORS)
    return folder


@pytest.fixture(scope='session')
def make_tiny_checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Gives a maker of folders with a calibrated checkpoint of a network's tiny preset."""
    return lambda model='bisenetv2', void_index=None, size=(64, 96): _tiny_checkpoint(
        tmp_path_factory.mktemp('tiny') / model, model, void_index, size
    )


def _tiny_checkpoint(
    folder: Path, model_name: str, void_index: int | None, size: tuple[int, int]
) -> Path:
    import torch

    from anomaly_seg_ros.checkpoint.folder import save_checkpoint
    from anomaly_seg_ros.engines.scored_model import ScoredModel
    from anomaly_seg_ros.models import build_model, MODELS
    from anomaly_seg_ros.registry import lookup

    options = dict(lookup('model', MODELS, model_name).presets['tiny'])
    meta = fake_meta(
        model=model_name,
        model_options=options,
        input_size=size,
        void_index=void_index,
        calibrations={},
        thresholds={},
    )
    torch.manual_seed(0)
    model = build_model(model_name, meta.channels, options).eval()
    images = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    # Classifiers start flat; spread the logits, or rounding alone would decide the labels.
    with torch.no_grad():
        spread = ScoredModel(model, meta, 'max_logit').output(images).logits.std()
        last = [
            m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        ]
        for value in last[-1].parameters():
            value.mul_(3 / spread)
    checkpoint = save_checkpoint(folder, meta, model.state_dict())
    scores = [
        'energy',
        'entropy',
        'max_logit',
        'msp',
        *(['void'] if void_index is not None else []),
    ]
    calibrations = {}
    with torch.inference_mode():
        for score in scores:
            values = ScoredModel(model, meta, score)(images)['score'].numpy()
            calibrations[score] = Calibration.fit(values)
    checkpoint.with_meta(calibrations=calibrations, thresholds=dict.fromkeys(scores, 0.95))
    return folder


@pytest.fixture(scope='session')
def tiny_checkpoint(make_tiny_checkpoint: Callable[..., Path]) -> Path:
    """BiSeNetV2 at its tiny preset; do not change the folder."""
    return make_tiny_checkpoint()


@pytest.fixture(scope='session')
def exported_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a ready OpenVINO engine beside it; do not change the folder."""
    from anomaly_seg_ros.engines.export import export_engine

    ignore = shutil.ignore_patterns('engines')  # a node keeps there how long it built
    to = tmp_path_factory.mktemp('exported') / 'tiny'
    folder = Path(shutil.copytree(tiny_checkpoint, to, ignore=ignore))
    checkpoint = Checkpoint.open(folder)
    size = checkpoint.meta.input_size
    export_engine(checkpoint, None, size, 'auto', folder / 'engines/openvino')
    return folder


@pytest.fixture
def one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Adds to a table as its owner would: one file with the code, one line in the table."""
    folder = tmp_path / 'one_more'
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def add(table: dict[str, str], name: str, code: str, attribute: str) -> None:
        module = f'made_by_{tmp_path.name}_{name}'  # each its own: modules stay imported
        (folder / f'{module}.py').write_text(code, encoding='utf-8')
        monkeypatch.setitem(table, name, f'{module}:{attribute}')

    return add


# --- ROS -----------------------------------------------------------------------------------------


@pytest.fixture(scope='session')
def ros() -> Iterator[None]:
    """ROS, once for the session; pytest keeps Ctrl-C."""
    rclpy = pytest.importorskip('rclpy')
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


class Bench:
    """The nodes of one test on one executor, in a namespace of their own."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self.namespace = f'/t{os.getpid()}_{next(self._numbers)}'
        self.executor = SingleThreadedExecutor()
        self.nodes: list[Node] = []
        self.user = self.add(self._make_user())

    def _make_user(self) -> Node:
        import rclpy

        return rclpy.create_node('user', namespace=self.namespace)

    def add(self, node: Any) -> Any:
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin_until(
        self,
        predicate: Callable[[], object],
        what: str = 'it to happen',
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Spins all nodes in slices until `predicate` is true; fails after the deadline."""
        end = time.monotonic() + deadline_s
        while not predicate():
            if time.monotonic() > end:
                pytest.fail(f'waited {deadline_s:.0f} s for {what}')
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        for node in self.nodes:
            if hasattr(node, 'release'):
                node.release()
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def bench(ros: None) -> Iterator[Bench]:
    result = Bench()
    yield result
    result.close()


class Rig(Bench):
    """The node under test with a fake engine, a camera, and somebody who listens."""

    def __init__(self, checkpoint: Path):
        super().__init__()
        self.checkpoint = checkpoint
        self.engine = FakeEngine()
        self.opened: list[tuple[Any, ...]] = []
        self.open_fault: Exception | None = None
        self.notice: BuildNotice | None = None
        self.while_building: Callable[[], object] = lambda: None
        self.heard: dict[str, list[Any]] = {}
        self._readers: dict[str, Any] = {}

    def open_engine(self, *args: Any) -> FakeEngine:
        self.opened.append(args[:-1])
        if self.notice is not None:
            args[-1](self.notice)
            self.while_building()
        if self.open_fault is not None:
            raise self.open_fault
        return self.engine

    def start(self, autostart: bool = False, **values: Any) -> AnomalySegNode:
        """Makes the node; values are parameters."""
        from rclpy.parameter import Parameter

        from anomaly_seg_ros.ros.node import AnomalySegNode

        # Most tests look at frames and not at who listens.
        usual = {'autostart': autostart, 'idle_without_listeners': False}
        values = {'checkpoint': str(self.checkpoint), **usual, **values}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = AnomalySegNode(
            self.open_engine, namespace=self.namespace, parameter_overrides=overrides
        )
        self.add(self.node)
        return self.node

    def activate(self, **values: Any) -> AnomalySegNode:
        """Makes the node and brings it to active."""
        from rclpy.lifecycle import TransitionCallbackReturn

        node = self.start(**values)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        self.engine.seen.clear()  # of the warm-up
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        return node

    def name(self, topic: str) -> str:
        from anomaly_seg_ros.node import topics

        return topics.resolve(topic, self.namespace)

    def camera(self, reliable: bool = True, topic: str | None = None, kind: Any = None) -> Any:
        """Makes a publisher of the image and waits until node and camera know each other."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        from anomaly_seg_ros.node import topics

        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.publisher = self.user.create_publisher(
            kind or Image,
            topic or self.name(topics.IMAGE),
            QoSProfile(depth=1, reliability=policy),
        )
        return self.publisher

    def connect(self, *outputs: str, reliable: bool = True, **camera: Any) -> None:
        """Makes a camera and listeners and waits until all of them are matched."""
        self.camera(reliable, **camera)
        self.listen(*outputs)
        self.spin_until(
            lambda: (
                self.publisher.get_subscription_count()
                and self.node.count_publishers(self.publisher.topic_name)
            ),
            'camera and node to match',
        )

    def listen(self, *outputs: str, kind: Any = None, latched: bool = False) -> None:
        """Collects what comes on these topics in `heard`, and waits until they are matched."""
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image

        profile = QoSProfile(depth=10)
        if latched:
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        for topic in outputs:
            self.heard[topic] = []
            self._readers[topic] = self.user.create_subscription(
                kind or Image, self.name(topic), self.heard[topic].append, profile
            )
        self.spin_until(
            lambda: all(self.user.count_publishers(self.name(topic)) for topic in outputs),
            f'publishers of {outputs}',
        )
        advertised = self.node.cameras[0].outputs if self.node.cameras else {}
        self.spin_until(
            lambda: all(
                advertised[topic].publisher.get_subscription_count()
                for topic in outputs
                if topic in advertised
            ),
            'listeners to match',
        )

    def deafen(self, topic: str) -> None:
        """Stops listening, and waits until the node knows."""
        self.user.destroy_subscription(self._readers.pop(topic))
        publisher = self.node.cameras[0].outputs[topic].publisher
        self.spin_until(lambda: publisher.get_subscription_count() == 0, 'listener to be gone')

    def send(self, message: Any) -> None:
        """Publishes and waits until the node has it."""
        before = self.node.cameras[0].statistics.count('received')
        self.publisher.publish(message)
        self.spin_until(
            lambda: self.node.cameras[0].statistics.count('received') > before,
            'the image to arrive',
        )

    def answer(self, message: Any, *topics: str) -> list[Any]:
        """Sends an image and gives what comes back on these topics, once it is counted too."""
        before = {topic: len(self.heard[topic]) for topic in topics}
        found: dict[str, Any] = {}

        def look() -> bool:
            for topic in topics:
                for heard in self.heard[topic][before[topic] :]:
                    if heard.header == message.header:
                        found[topic] = heard
            return len(found) == len(topics)

        self.send(message)
        self.spin_until(look, f'answers on {topics}')
        self.settle()  # outputs go out before their frame is counted
        return [found[topic] for topic in topics]

    def settle(self) -> None:
        """Waits until the worker has dealt with every frame that came in."""
        statistics = self.node.cameras[0].statistics
        ends = ('processed', *UNPROCESSED)
        self.spin_until(
            lambda: sum(map(statistics.count, ends)) >= statistics.count('received'),
            'the worker',
        )


@pytest.fixture
def rig(ros: None, fake_checkpoint: Path) -> Iterator[Rig]:
    result = Rig(fake_checkpoint)
    yield result
    result.engine.gate.set()
    result.close()


@pytest.fixture(scope='session')
def image_message() -> Callable[..., Any]:
    """Gives a maker of `sensor_msgs/Image` from an array, with a stamp that tells it apart."""
    pytest.importorskip('sensor_msgs')
    return _image_message


_last_stamp = [0]


def next_stamp() -> tuple[int, int]:
    """Gives the time now, in seconds and nanoseconds; each call another one."""
    _last_stamp[0] = max(_last_stamp[0] + 1_000_000, time.time_ns())
    return divmod(_last_stamp[0], 10**9)


def _image_message(
    pixels: NDArray[Any], encoding: str = 'rgb8', padding: int = 0, **fields: Any
) -> Any:
    """Makes a message; rows get `padding` bytes of rubbish behind them."""
    from array import array

    from sensor_msgs.msg import Image

    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    message = Image(height=height, width=width, encoding=encoding, step=padded.shape[1], **fields)
    message.data = array('B', padded.tobytes())
    message.header.stamp.sec, message.header.stamp.nanosec = next_stamp()
    message.header.frame_id = 'front_camera'
    return message


@pytest.fixture(scope='session')
def save() -> Callable[..., list[Path]]:
    """Gives a writer of images `f00.png`, `f01.png`, ... into a folder."""
    return _save


def _save(folder: Path, images: Sequence[NDArray[np.uint8]], stem: str = 'f{:02d}') -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{stem.format(i)}.png' for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        write_image(path, image)
    return paths


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Gives a maker of a bag of images."""

    def bag(
        images: Sequence[NDArray[np.uint8]],
        storage: str = 'mcap',
        compressed: str | None = None,
        name: str = 'in',
    ) -> Path:
        paths = _save(tmp_path / f'{name}_images', images)
        topic = '/image/compressed' if compressed else '/image'
        write_bag(of_files(paths), tmp_path / name, topic, storage, compressed)
        return tmp_path / name

    return bag
