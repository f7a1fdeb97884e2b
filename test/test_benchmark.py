"""The benchmark: its arithmetic by hand, its arguments, and what a real small run writes."""

from __future__ import annotations

from collections.abc import Callable
import json
import mmap
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.cli import main as cli
from anomaly_seg_ros.frames.image_message import to_frame
from anomaly_seg_ros.frames.pipeline import build_pipeline
from anomaly_seg_ros.process import allocator
from training.bench import candidates, engine_process, floor, frame, machine, table, timing
from training.bench.candidates import Candidate, EngineCall, parse_candidates
from training.results import KEYS, read_results, ResultRow

ROOT = Path(__file__).resolve().parent.parent
ROAD = 'synthetic'


def samples(*rounds: list[float]) -> timing.Samples:
    return timing.Samples(rounds_ms=list(rounds))


# --- timing --------------------------------------------------------------------------------------


def test_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    # Per round 10/30, 20/10 and 30/20: median 1.5. The medians of all, 20 and 20, would give 1.
    mine = samples([10.0, 10.0], [20.0, 20.0], [30.0, 30.0])
    base = samples([30.0, 30.0], [10.0, 10.0], [20.0, 20.0])
    assert timing.ratio(mine, base) == pytest.approx(1.5)


def test_ratio_stands_a_load_that_hits_one_round() -> None:
    # Each is loaded in another round, twice as long as the other then.
    mine = samples([11.0], [220.0], [11.0])
    base = samples([10.0], [100.0], [20.0])
    assert timing.ratio(mine, base) == pytest.approx(1.1)
    assert timing.ratio(base, base) == 1.0


def test_percentiles_by_hand() -> None:
    # Of 0, 1, ..., 20 the 95 % point lies at index 19.
    assert timing.percentiles([float(i) for i in range(20, -1, -1)]) == {'p50': 10.0, 'p95': 19.0}
    assert timing.percentiles([4.0]) == {'p50': 4.0, 'p95': 4.0}
    with pytest.raises(ValueError, match='at least one frame'):
        timing.percentiles([])


class FakeTime:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def work(self, name: str, *seconds: float) -> Callable[[], dict[str, float]]:
        """A frame that takes these seconds, one after the other, again and again."""
        count = iter(range(1_000_000))

        def work() -> dict[str, float]:
            self.calls.append(name)
            took = seconds[next(count) % len(seconds)]
            self.now += took
            return {'only': took * 1e3}

        return work


def test_rounds_alternate_and_the_first_frame_of_a_turn_is_not_timed() -> None:
    fake = FakeTime()
    works = {'a': fake.work('a', 9.0, 0.001, 0.003), 'b': fake.work('b', 9.0, 0.004, 0.004)}
    found = timing.interleave(works, 3, 2, clock=lambda: fake.now, cpu_clock=lambda: 2 * fake.now)
    assert ''.join(fake.calls) == 'aaabbb' + 'bbbaaa' + 'aaabbb'
    for round_ms in found['a'].rounds_ms:
        assert round_ms == pytest.approx([1.0, 3.0])
    assert found['a'].cpu_ms == pytest.approx([2.0, 6.0] * 3)
    assert found['b'].wall_ms == pytest.approx([4.0] * 6)
    assert timing.ratio(found['b'], found['a']) == pytest.approx(2.0)
    assert found['a'].stages_ms() == pytest.approx({'only': 2.0})


def test_progress_is_told_of_every_turn() -> None:
    turns: list[int] = []
    works = {'a': lambda: None, 'b': lambda: None}
    timing.interleave(works, 3, 1, progress=lambda: turns.append(1))
    assert len(turns) == 6


# --- arguments -----------------------------------------------------------------------------------


def test_engines_with_precisions() -> None:
    found = parse_candidates('openvino:bf16, openvino:fp32,torch', 'fp16')
    assert found == [
        Candidate('openvino', 'bf16'),
        Candidate('openvino', 'fp32'),
        Candidate('torch', 'fp16'),
    ]
    assert [c.label for c in found] == ['openvino:bf16', 'openvino:fp32', 'torch:fp16']
    assert Candidate('torch', 'auto').label == 'torch'


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('openvin', "unknown engine 'openvin'; choose one of: auto, "),
        ('torch:fp31', "unknown precision 'fp31'; choose one of: auto, "),
        ('torch,openvino,torch', "engine 'torch' stands twice"),
        ('', "unknown engine ''"),
    ],
)
def test_wrong_engines(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_candidates(text)


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (['--engine', 'magic'], "unknown engine 'magic'"),
        (['--precision', 'fp7'], "unknown precision 'fp7'"),
        (['--size', '360'], "size '360' is not of the form HxW"),
        (['--image', '0x5'], "size '0x5' is not of the form HxW"),
        (['--score', 'msx'], "unknown score 'msx'"),
        (['--rounds', '0'], 'rounds is 0'),
        (['--checkpoint', '/nowhere'], '/nowhere'),
        (['--source', '/nowhere'], '/nowhere'),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(['benchmark', '--out', str(tmp_path / 'out'), *arguments]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_a_call_survives_its_way_to_another_process() -> None:
    call = EngineCall('/a b/c', 'openvino', 'msp', 'fp32', '/e')
    assert EngineCall.from_json(call.to_json()) == call


def test_a_checkpoint_of_another_size_shares_the_weights(fake_checkpoint: Path) -> None:
    checkpoint = Checkpoint.open(fake_checkpoint)
    with candidates.sized_checkpoint(checkpoint, (24, 32)) as same:
        assert same is checkpoint
    with candidates.sized_checkpoint(checkpoint, (48, 64)) as other:
        assert other.meta.input_size == (48, 64)
        assert other.weights_sha256 == checkpoint.weights_sha256
        assert other.meta.thresholds == checkpoint.meta.thresholds
    assert not other.folder.exists()
    assert Checkpoint.open(fake_checkpoint).meta.input_size == (24, 32)


@pytest.mark.slow
def test_an_engine_that_cannot_be_made_tells_its_last_line(fake_checkpoint: Path) -> None:
    wanted = Candidate('openvino', 'auto')
    checkpoint = Checkpoint.open(fake_checkpoint)
    with pytest.raises(ImportError) as caught:
        candidates.prepare(wanted, checkpoint, 'max_logit', fake_checkpoint / 'work')
    assert str(caught.value) == "size 24x32 is below the stride 32 of 'bisenetv2'; use 32x32"


# --- whole frame ---------------------------------------------------------------------------------


def test_the_camera_message_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_frame(frame.message_of(image)).rgb, image)


def test_camera_images_have_the_size() -> None:
    images = frame.camera_images(ROAD, (54, 96))
    assert [image.shape for image in images] == [(54, 96, 3)] * frame.IMAGES
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize(
    ('name', 'stages'),
    [
        ('frame', ['resize', 'inference', 'calibrate', 'regions']),
        ('frame_camera', ['resize', 'inference', 'calibrate', 'outputs']),
        ('pictures', ['resize', 'inference', 'calibrate', 'outputs', 'pictures']),
    ],
)
def test_stages_of_a_frame_and_where_its_time_goes(
    name: str,
    stages: list[str],
    fake_engine: Any,
    make_fake_meta: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Time stands still but in the engine.
    clock = [100.0]
    infer = fake_engine.infer

    def infer_for_20_ms(image: Any) -> Any:
        clock[0] += 0.02
        return infer(image)

    monkeypatch.setattr(fake_engine, 'infer', infer_for_20_ms)
    monkeypatch.setattr('time.perf_counter', lambda: clock[0])
    pipeline = build_pipeline(fake_engine, make_fake_meta())
    images = frame.camera_images(ROAD, (48, 64))
    found = frame.frame_work(pipeline, images, frame.FRAMES[name])()
    assert found is not None
    assert list(found) == stages
    assert found.pop('inference') == pytest.approx(20)
    assert set(found.values()) == {0.0}


def test_a_frame_of_a_score_without_calibration(fake_engine: Any, make_fake_meta: Any) -> None:
    pipeline = build_pipeline(fake_engine, make_fake_meta(calibrations={}))
    images = frame.camera_images(ROAD, (48, 64))
    for outputs in frame.FRAMES.values():
        assert frame.frame_work(pipeline, images, outputs)()


def test_the_bare_network_gets_ready_images(fake_engine: Any) -> None:
    images = frame.camera_images(ROAD, (48, 64))
    work = frame.network_work(fake_engine, images)
    for _ in range(frame.IMAGES + 1):
        work()
    seen = fake_engine.seen
    assert len(seen) == frame.IMAGES + 1
    assert seen[0] == seen[-1]


# --- machine and floor ---------------------------------------------------------------------------


def test_the_tuned_environment_is_what_tune_allocator_sets() -> None:
    names = {-4: 'MALLOC_MMAP_MAX_', -1: 'MALLOC_TRIM_THRESHOLD_', -8: 'MALLOC_ARENA_MAX'}
    settings = {names[option]: str(value) for option, value in allocator._SETTINGS}
    assert machine.ALLOCATORS['tuned'] == settings


def test_variables_are_those_of_one_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MALLOC_ARENA_MAX', '7')
    read = 'import os; print(sorted(k for k in os.environ if k.startswith("MALLOC_")))'
    for setting, settings in machine.ALLOCATORS.items():
        with machine.variables(settings):
            result = subprocess.run(
                [sys.executable, '-c', read], capture_output=True, text=True, check=True
            )
        assert eval(result.stdout) == sorted(settings), setting
    assert os.environ['MALLOC_ARENA_MAX'] == '7'


def test_cpu_name(tmp_path: Path) -> None:
    (tmp_path / 'cpuinfo').write_text('processor : 0\nmodel name\t: Fast CPU @ 3 GHz\n')
    assert machine.cpu_name(tmp_path / 'cpuinfo') == 'Fast CPU @ 3 GHz'
    assert machine.cpu_name(tmp_path / 'none')


def test_memory_and_faults_of_a_process() -> None:
    memory = machine.process_memory_mb()
    assert 5 < memory['uss'] <= memory['rss'] <= memory['peak']
    before = machine.page_faults()
    with mmap.mmap(-1, 100 * mmap.PAGESIZE) as fresh:
        for page in range(100):
            fresh[page * mmap.PAGESIZE] = 1
    # Where the kernel gives huge pages it is one fault for many.
    assert 0 < machine.page_faults() - before < 1000


def test_floor_by_hand() -> None:
    peaks = {'fp32': 100.0, 'bf16': 400.0, 'copy': 10.0}
    found = {'gflop': 2.0, 'numbers': 5_000_000, 'peaks': {'cpu': peaks}}
    # 2 GFLOP at 100 GFLOP/s are 20 ms; 20 MB at 10 GB/s are 2 ms: arithmetic decides.
    whole = floor.floor_of(found, 'fp32', 'some CPU', 40.0)
    assert whole is not None
    assert whole['floor_ms'] == pytest.approx(20.0)
    assert whole['mbytes'] == pytest.approx(20.0)
    assert whole['efficiency'] == pytest.approx(0.5)
    # In half precision 5 ms and 1 ms; with a hundred times the traffic 100 ms.
    half = floor.floor_of(found, 'bf16', 'some CPU', 10.0)
    assert half is not None
    assert half['floor_ms'] == pytest.approx(5.0)
    heavy = floor.floor_of({**found, 'numbers': 500_000_000}, 'bf16', 'some CPU', 200.0)
    assert heavy is not None
    assert heavy['floor_ms'] == pytest.approx(100.0)
    assert floor.floor_of(found, 'int8', 'some CPU', 1.0) is None
    assert floor.floor_of(None, 'fp32', 'some CPU', 1.0) is None


def test_floor_of_an_engine_on_a_gpu_uses_that_gpu() -> None:
    peaks = {'cpu': {'fp32': 100.0, 'copy': 10.0}, 'GPU 9000': {'fp32': 1000.0, 'copy': 99.0}}
    found = {'gflop': 2.0, 'numbers': 1000, 'peaks': peaks}
    whole = floor.floor_of(found, 'fp32', 'torch 2.13, GPU 9000, 2 threads', 4.0)
    assert whole is not None
    assert whole['floor_ms'] == pytest.approx(2.0)


def test_counted_operations_by_hand(
    fake_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class Scored(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1, stride=2)

        def forward(self, images: Any) -> Any:
            return self.conv(images.permute(0, 3, 1, 2).float())

    from anomaly_seg_ros.engines import scored_model

    monkeypatch.setattr(scored_model, 'load_scored_model', lambda *_: Scored())
    gflop, numbers = floor.count(Checkpoint.open(fake_checkpoint), (4, 6))
    # 2x3 places, 2 of 3 channels each, two operations per product: 72. Read 4*6*3 = 72 numbers,
    # written 2*3*2 = 12, weights 6 and biases 2.
    assert gflop * 1e9 == pytest.approx(72)
    assert numbers == 72 + 12 + 8


# --- tables --------------------------------------------------------------------------------------


def test_table_leaves_out_empty_columns_and_tells_notes() -> None:
    rows = [
        ResultRow(
            engine='openvino', precision='bf16', input_size=(360, 480), peak_mb=250.4,
            latency_ms={'p50': 29.04, 'p95': 31.0},
            extra={'kind': 'engine', 'ratio_to_first': 1.0, 'label_agreement': 0.99996},
        ),
        ResultRow(
            engine='tensorrt', precision='auto', input_size=(360, 480),
            extra={'kind': 'engine', 'note': 'needs a GPU'},
        ),
    ]  # fmt: skip
    lines = table.engine_table(rows).splitlines()
    assert lines[0] == '| engine | input | p50 ms | p95 | peak MB | to first | equal labels % |'
    assert lines[2] == '| openvino bf16 | 360x480 | 29.0 | 31.0 | 250 | 1.000 | 99.99 |'
    assert lines[-1] == 'tensorrt auto: not measured: needs a GPU'
    assert table.node_table(rows) == ''


# --- real runs -----------------------------------------------------------------------------------


def on_one_core() -> None:
    """Then every engine takes one thread: torch's two would fight over a machine that is busy."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.fixture(scope='session')
def small_run(
    exported_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A benchmark of the tiny network; gives what `results.json` says."""
    out = tmp_path_factory.mktemp('benchmark') / 'out'
    command = [sys.executable, '-m', 'anomaly_seg_ros', 'benchmark', '--out', str(out)]
    command += ['--checkpoint', str(exported_checkpoint), '--engine', 'openvino,torch,tensorrt']
    command += ['--rounds', '2', '--image', '96x128']
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
        preexec_fn=on_one_core,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr  # one of the three is not here
    content: dict[str, Any] = json.loads((out / 'results.json').read_text())
    return {'out': out, 'printed': result.stdout, 'rows': content['rows']}


@pytest.mark.slow
def test_times_are_kept_where_the_memory_cannot_be_measured(
    exported_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError('an engine process was killed by signal 9; perhaps memory was full')

    monkeypatch.setattr('training.bench.engines.peak_memory', killed)
    call = ['benchmark', '--out', str(tmp_path / 'out'), '--checkpoint', str(exported_checkpoint)]
    assert cli([*call, '--engine', 'openvino', '--rounds', '1', '--image', '96x128']) == 1
    (row,) = read_results(tmp_path / 'out')
    assert row.latency_ms is not None
    assert row.peak_mb is None
    said = 'openvino: memory not measured: an engine process was killed by signal 9; perhaps'
    assert row.extra['warnings'][0].startswith(said)
    assert f'warning: {said}' in capsys.readouterr().out


@pytest.mark.slow
def test_results_of_a_small_run(small_run: dict[str, Any]) -> None:
    rows = {row['engine']: row for row in small_run['rows']}
    assert list(rows) == ['openvino', 'torch', 'tensorrt']
    for row in rows.values():
        assert set(KEYS) <= set(row)
        assert row['input_size'] == [64, 96]
        assert row['command'].startswith('anomaly_seg benchmark ')
        assert row['machine']['threads'] == 1
        assert row['machine']['allocator'] == 'tuned'
    for name in ('openvino', 'torch'):
        row = rows[name]
        assert 0 < row['min_ms'] <= row['latency_ms']['p50'] <= row['latency_ms']['p95']
        assert row['fps'] == pytest.approx(1e3 / row['latency_ms']['p50'])
        assert row['peak_mb'] >= row['memory_mb']['rss'] > 50
        assert row['label_agreement'] > 0.9
        assert set(row['ratio_frames']) == set(frame.FRAMES)
        assert set(row['stages_ms']) == {
            'resize', 'inference', 'calibrate', 'outputs', 'pictures'
        }  # fmt: skip
        assert row['floor']['floor_ms'] > 0
    assert rows['openvino']['ratio_to_first'] == 1.0
    assert rows['openvino']['label_agreement'] == 1.0
    assert rows['torch']['precision'] == 'fp32'
    # torch is loaded by the process that runs torch, and by no other.
    assert rows['torch']['peak_mb'] > rows['openvino']['peak_mb'] + 50


@pytest.mark.slow
def test_an_engine_that_is_missing_is_said_and_the_others_go_on(
    small_run: dict[str, Any],
) -> None:
    missing = small_run['rows'][2]
    assert missing['latency_ms'] is None
    assert missing['note']
    assert '\n' not in missing['note']
    assert missing['note'] in small_run['printed']
    assert missing['warnings'] == [f'tensorrt: not measured: {missing["note"]}']


@pytest.mark.slow
def test_the_report_draws_a_real_run(small_run: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / 'page.html'
    assert cli(['report', str(small_run['out']), '--out', str(page)]) == 0
    text = page.read_text(encoding='utf-8')
    row = small_run['rows'][0]
    assert f'{row["latency_ms"]["p50"]:.1f}' in text
    assert 'class="floor"' in text
    assert f'pictures {row["stages_ms"]["pictures"]:.2f}' in text
    assert f'pictures {row["ratio_frames"]["pictures"]:.2f}' in text
    assert table.engine_table(read_results(small_run['out'])) in small_run['printed']


@pytest.mark.slow
def test_it_needs_no_torch_where_the_engine_needs_none(
    exported_checkpoint: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / 'blocked'
    blocked.mkdir()
    (blocked / 'sitecustomize.py').write_text(
        'import sys\n'
        'class Refuse:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        '        if name.split(".")[0] in ("torch", "safetensors", "lightning", "pandas"):\n'
        '            raise ModuleNotFoundError(f"No module named {name!r}", name=name)\n'
        'sys.meta_path.insert(0, Refuse())\n'
        'import importlib.util\n'
        'found = importlib.util.find_spec\n'
        'def find_spec(name, package=None):\n'
        '    return None if name == "torch" else found(name, package)\n'
        'importlib.util.find_spec = find_spec\n'
    )
    out = tmp_path / 'out'
    result = subprocess.run(
        [sys.executable, '-m', 'anomaly_seg_ros', 'benchmark', '--out', str(out), '--checkpoint',
         str(exported_checkpoint), '--engine', 'openvino,torch', '--rounds', '1', '--image',
         '96x128'],
        cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(blocked)}, capture_output=True, text=True,
        timeout=110, check=False, preexec_fn=on_one_core,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    fast, missing = read_results(out)
    assert fast.latency_ms is not None
    assert fast.extra['floor'] is None
    assert missing.latency_ms is None
    assert 'torch' in missing.extra['note']


@pytest.mark.slow
def test_the_calibration_benchmark(exported_checkpoint: Path, tmp_path: Path) -> None:
    from training.bench import calibration

    arguments = ['--checkpoint', str(exported_checkpoint), '--size', '40x60', '--rounds', '2']
    assert calibration.main([*arguments, '--out', str(tmp_path)]) == 0
    rows = read_results(tmp_path)
    assert rows[0].extra['ratio_to_first'] == 1.0
    assert len(rows) == 3


def test_both_ways_of_the_calibration_benchmark_agree(make_fake_meta: Any) -> None:
    from training.bench import calibration

    meta = make_fake_meta()
    fitted = meta.calibrations['max_logit']
    score = calibration.score_map(fitted, (40, 60))
    assert score.min() == pytest.approx(-5, abs=1e-3)
    assert score.max() == pytest.approx(5, abs=1e-3)
    still = calibration.StillEngine(
        calibration.Prediction(np.zeros((40, 60), np.uint8), score.astype(np.float16)), 'max_logit'
    )
    result = build_pipeline(still, meta)(np.zeros((40, 60, 3), np.uint8))
    exact = fitted.share(score) >= meta.thresholds['max_logit']
    assert ((result.mask == 255) == exact).mean() > 0.99


@pytest.mark.slow
def test_an_engine_process_times_frames_at_its_pace(exported_checkpoint: Path) -> None:
    call = EngineCall(str(exported_checkpoint), 'openvino', 'max_logit', 'fp32')
    with engine_process.EngineProcess(call.to_json(), ROAD, (96, 128)) as running:
        assert running.about['precision'] == 'fp32'
        answer = running.run(3, period_s=0.01)
        assert len(answer['wall_ms']) == len(answer['cpu_ms']) == 3
        assert answer['memory_mb']['peak'] > 20
        assert len(running.run(2, 'pictures')['wall_ms']) == 2


def test_a_training_step_takes_any_size(
    make_tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    seen: list[tuple[float, int]] = []
    real = torch.nn.functional.cross_entropy

    def loss(logits: Any, labels: Any) -> Any:
        value = real(logits, labels)
        seen.append((value.item(), logits.shape[-1]))
        return value

    monkeypatch.setattr(torch.nn.functional, 'cross_entropy', loss)
    step = engine_process.training_work(make_tiny_checkpoint(size=(60, 90)))  # no multiple of 32
    step()
    step()
    assert [width for _, width in seen] == [90, 90]
    assert all(value > 0 for value, _ in seen)


@pytest.mark.slow
def test_an_engine_process_tells_why_its_engine_does_not_open(tmp_path: Path) -> None:
    call = EngineCall(str(tmp_path), 'openvino', 'max_logit', 'fp32')
    with pytest.raises(RuntimeError, match='has no meta'):
        engine_process.EngineProcess(call.to_json(), ROAD, (96, 128))


def test_a_checkpoint_that_no_engine_can_run_is_an_error(
    fake_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['--checkpoint', str(fake_checkpoint), '--engine', 'torch', '--image', '48x64']
    assert cli(['benchmark', '--out', str(tmp_path / 'out'), *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / 'out').exists()
