from collections.abc import Iterable
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

from anomaly_seg_ros.cli import main, VERBS
from anomaly_seg_ros.command_line.errors import BAG_PACKAGES, say_error
from anomaly_seg_ros.engines.facts import TORCH

ROOT = Path(__file__).resolve().parent.parent
LEAST_FIT = ['--checkpoint', 'default', '--score', 'msp', '--dataset', 'camvid', '--root', '.']


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_has_help(verb: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, '--help'])
    assert stop.value.code == 0
    assert verb in capsys.readouterr().out


def test_help_lists_the_verbs(capsys) -> None:
    with pytest.raises(SystemExit):
        main(['--help'])
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['predict', 'nowhere.png', '--out', 'o'], "no file or folder 'nowhere.png'"),
        (['predict', '.', '--save', 'masks', '--out', 'o'], "unknown output 'masks'; choose of:"),
        (['train', 'none.yaml', '--out', 'o'], "no training configuration 'none.yaml'"),
        (['import_weights', 'none.pth', '--model', 'enet', '--out', 'o'], 'none.pth'),
        (['export', '--checkpoint', 'none', '--out', 'o'], "no checkpoint folder 'none'"),
        (['demo', '--source', 'nowhere'], "no source 'nowhere'"),
        (['demo', '--rate', '0'], 'rate is 0.0; it must be above 0'),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert '\n' not in error
    assert error.startswith(f'anomaly_seg {argv[0]}: ')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('argv', [['preditc'], [], ['predict']])
def test_wrong_usage_is_status_2(argv) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


SLIPS = [
    (['train', 'RECIPE', 'epoch=3'], "unknown training key 'epoch'; did you mean 'epochs'?"),
    (['train', 'RECIPE', '--resum'], "nothing to resume: no 'OUT/last.ckpt'"),
    (['train', 'RECIPE', '--resmue'], "argument '--resmue'; did you mean '--resume'?; see"),
    (['train', 'RECIPE', 'classes=5'], 'the dataset decides how many classes there are'),
    (['train', 'RECIPE', 'model=enett'], "unknown model 'enett'; choose one of: autoencoder,"),
    (['train', 'RECIPE', 'loss=ohemm'], "unknown loss 'ohemm'; choose one of: cross_entropy"),
    (['train', 'RECIPE', 'objective=x'], "unknown objective 'x'; choose one of: dense_hybrid"),
    (['train', 'RECIPE', 'objective_options.x=1'], "options ['x'] of objective 'segmentatio"),
    (['train', 'RECIPE', 'model_options.head_=x'], "options ['head_'] of model 'enet'; it ta"),
    (['train', 'RECIPE', 'loss_options.ohem.x=1'], "options ['x'] of loss 'ohem'; it takes:"),
    (['train', 'RECIPE', 'outliers.root=x'], "outliers need a 'kind', one of: ade20k, coco"),
    (['train', 'RECIPE', 'outliers={kind: coco, rot: x}'], "options ['rot'] of outliers kind"),
    (['train', 'RECIPE', 'crop=[100, 100]'], "does not fit 'enet', whose stride is 8; use [9"),
    (
        ['train', 'RECIPE', 'dataset=kitti'],
        "unknown dataset 'kitti'; choose one of: bdd_anomaly, camvid",
    ),
    (['train', 'RECIPE', 'lr=fast'], "lr is 'fast'; it must be of type float"),
    (['train', 'RECIPE', 'root=/nowhere'], "no folder '/nowhere"),
    (['train_flow', 'RECIPE'], 'unknown keys'),
    (['evaluate', '--scroe', 'msp'], "argument '--scroe'; did you mean '--score'?; see"),
    (['evaluate', '--dataset', 'camvid', '--root', '.'], '--checkpoint is missing'),
    (['fit_score', *LEAST_FIT, '--optoin', 'x'], "'--optoin'; did you mean '--option'?; see"),
    (['fit_score', *LEAST_FIT, '--dataset', 'camvidd'], "unknown dataset 'camvidd'; choose one"),
    (['fit_score', *LEAST_FIT, '--checkpoint', 'none'], "no checkpoint folder 'none'"),
    (['export', '--checkpoint', 'default', '--score', 'mps'], "unknown score 'mps'; choose one"),
    (['import_weights', 'x.pth', '--model', 'enett'], "unknown model 'enett'; choose one of: au"),
    (['fit_score', *LEAST_FIT, '--score', 'mps'], "unknown score 'mps'; choose of:"),
    (['import_weights', 'x.pth', '--modle', 'enet'], 'required: --model'),
    (['report', 'x'], "no 'x/results.json'"),
    (['bag', 'x', '--threads', '0'], 'threads is 0; it must be 1 or more'),
]
"""What is typed, without --out, and what is answered."""

TYPED = """
import contextlib, io, json, sys
from anomaly_seg_ros.cli import main
said = []
for argv in json.loads(sys.argv[1]):
    errors, texts = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(texts):
        try:
            status = main(argv)
        except SystemExit as end:
            status = end.code
    said.append((status, errors.getvalue()))
print(json.dumps(said))
"""


def said_without(
    modules: Iterable[str], typed: list[list[str]], folder: Path
) -> list[tuple[int, str]]:
    """Gives status and error of each call, of a process in which importing these modules fails."""
    for name in modules:
        (folder / f'{name}.py').write_text(f"raise AssertionError('{name} was imported')")
    result = subprocess.run(
        [sys.executable, '-c', TYPED, json.dumps(typed)],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    return [(status, error) for status, error in json.loads(result.stdout)]


@pytest.fixture(scope='module')
def answers(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Status and error of each slip, of a process in which importing torch fails."""
    folder = tmp_path_factory.mktemp('slips')
    (folder / 'tiny.yaml').write_text('{dataset: camvid, root: /data, model: enet}')
    typed = []
    for argv, _ in SLIPS:
        out = 'out.html' if argv[0] == 'report' else 'OUT'
        typed.append(['tiny.yaml' if part == 'RECIPE' else part for part in argv] + ['--out', out])
    said = said_without(['torch'], typed, folder)
    return {told: answer for (_, told), answer in zip(SLIPS, said, strict=True)}


@pytest.mark.parametrize(('argv', 'told'), SLIPS)
def test_a_slip_of_the_hand_is_said_before_torch_is_imported(
    argv: list[str], told: str, answers: dict[str, tuple[int, str]]
) -> None:
    status, error = answers[told]
    assert told in error
    assert error.count('\n') == 1
    assert status == 2


def test_the_module_is_the_command() -> None:
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, '-m', 'anomaly_seg_ros', '--version'],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == '0.1.0'


def test_what_reads_bags_is_named_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A vehicle has ROS from apt; the files of requirements would bring another one."""
    missing = ModuleNotFoundError("No module named 'rosbags'", name='rosbags.highlevel')
    assert say_error('anomaly_seg bag', missing, None) == 2
    said = capsys.readouterr().err
    assert said.endswith(f'install what it needs: pip install {BAG_PACKAGES}\n')
    pinned = Path('config/requirements/node.txt').read_text(encoding='utf-8').splitlines()
    assert set(BAG_PACKAGES.split()) <= set(pinned)
    assert BAG_PACKAGES in Path('docs/vehicle.md').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    ('name', 'way'),
    [
        ('lightning', 'install what it needs: pip install -r config/requirements/train.txt'),
        ('torch', 'install what it needs: pip install torch==2.13.0 safetensors==0.8.0'),
        ('safetensors', 'install what it needs: pip install torch==2.13.0 safetensors==0.8.0'),
        ('cv2', 'install what it needs: pip install opencv-python-headless'),
        ('yaml', 'install what it needs: pip install PyYAML'),
        ('rclpy', 'source the setup file of ROS and that of the workspace'),
        ('sensor_msgs.msg', 'source the setup file of ROS and that of the workspace'),
    ],
)
def test_only_what_is_missing_is_to_be_installed(
    name: str, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say_error('anomaly_seg demo', ModuleNotFoundError(f'no {name}', name=name), None) == 2
    assert capsys.readouterr().err == f'anomaly_seg demo: no {name}; {way}\n'


def test_what_a_gpu_adds_brings_no_second_ros() -> None:
    folder = Path('config/requirements')
    lines = (folder / 'gpu.txt').read_text(encoding='utf-8').splitlines()
    assert set(TORCH.values()) <= set(lines)
    assert '-r node.txt' not in lines


def test_every_verb_has_its_help_where_only_the_node_is_installed(tmp_path: Path) -> None:
    added = ['torch', 'safetensors', 'PIL', 'lightning', 'tensorboard', 'onnx', 'onnxscript']
    calls = [[verb, '--help'] for verb in VERBS]
    said = said_without([*added, 'nncf', 'faiss', 'transformers'], calls, tmp_path)
    assert dict(zip(VERBS, said, strict=True)) == dict.fromkeys(VERBS, (0, ''))
