from pathlib import Path
import subprocess
import sys

import pytest

from anomaly_seg_ros.cli import main, VERBS


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
