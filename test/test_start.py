"""What keeps the node from starting is one line and a status; a signal ends it at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from anomaly_seg_ros.node.start_checks import check_start, explained
from anomaly_seg_ros.ros import start

ROOT = Path(__file__).resolve().parent.parent
HERE = {'HOME': str(Path.home()), 'ROS_LOG_DIR': '/tmp'}
SECURED = {'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Enforce'}
PARAMS = ('--ros-args', '--params-file')


@pytest.mark.parametrize(
    ('arguments', 'variables', 'words'),
    [
        (['threshold:=0.5'], {}, "unknown argument 'threshold:=0.5'; usage: .*-p NAME:=VALUE"),
        (['--ros-args', '-p', 'a:=1', '--', '--x'], {}, "unknown argument '--x'"),
        ([*PARAMS, '/no/such.yaml'], {}, "no parameter file '/no/such.yaml'; check the path"),
        ([], {'ROS_DOMAIN_ID': 'abc'}, "ROS_DOMAIN_ID is 'abc'; set a whole number from 0 to 232"),
        ([], {'ROS_DOMAIN_ID': '233'}, "ROS_DOMAIN_ID is '233'"),
        ([], {'ROS_DOMAIN_ID': '-1'}, "ROS_DOMAIN_ID is '-1'"),
        ([], SECURED, 'Enforce and ROS_SECURITY_KEYSTORE is not set; set it to the folder'),
        ([], {'HOME': '', 'ROS_LOG_DIR': ''}, 'HOME is not set, .*; set HOME or ROS_LOG_DIR'),
        ([], {'ROS_LOG_DIR': f'{__file__}/x'}, 'ROS cannot write its logs: .* not a directory'),
        ([], {'ROS_LOG_DIR': '', 'ROS_HOME': __file__}, 'ROS cannot write its logs: .*test_start'),
    ],
)
def test_what_ros_would_say_badly(
    arguments: list[str], variables: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        check_start(arguments, HERE | variables)


@pytest.mark.parametrize('domain', ['', '0', '232'])
def test_what_is_right(domain: str, tmp_path: Path) -> None:
    (tmp_path / 'p.yaml').write_text('')
    variables = HERE | {'ROS_DOMAIN_ID': domain, 'ROS_LOG_DIR': str(tmp_path / 'new' / 'log')}
    check_start([*PARAMS, str(tmp_path / 'p.yaml'), '-p', 'a:=1', '--'], variables)
    assert [path.name for path in tmp_path.iterdir()] == ['p.yaml']


def test_words_of_ros() -> None:
    text = (
        "failed to initialize rcl: Couldn't parse remap rule: '-r __node:=front-cam'. Error: "
        'Expected lexeme type (1) not found, search ended at index 13, at '
        '/project/src/rcl/lexer_lookahead.c:238, at /project/src/rcl/arguments.c:380'
    )
    assert explained('RCLError', text) == (
        "ROS does not start: Couldn't parse remap rule: '-r __node:=front-cam'. Error: Expected "
        'lexeme type (1) not found, search ended at index 13; write FROM:=TO; names hold letters, '
        'digits and _ alone'
    )
    said = explained('UnknownROSArgsError', "['--nonsense']")
    assert said.startswith("ROS does not start: unknown ROS arguments ['--nonsense']; usage: ")


@pytest.mark.parametrize(
    ('fault', 'status', 'words'),
    [
        (KeyboardInterrupt(), 0, ''),
        (ModuleNotFoundError("No module named 'rclpy'"), 2, "'rclpy'; source the setup file"),
        (PermissionError(13, '', '/dev/gpu'), 2, "'/dev/gpu': permission denied"),
        (OSError(28, 'No space left on device', 'log'), 1, 'no space left'),
        (ValueError('no such engine\nat all'), 2, 'no such engine at all'),
    ],
)
def test_every_end_is_at_most_a_line(
    fault: BaseException, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def run(*arguments: object) -> NoReturn:
        raise fault

    monkeypatch.setattr(start, 'run', run)
    assert start.main([]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if words else 0)
    assert all(line.startswith('anomaly_seg_node: ') and words in line for line in lines)


def test_an_error_that_a_library_makes_of_a_signal_is_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def run(*arguments: object) -> NoReturn:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)  # an impatient second one
            raise ImportError('cannot be loaded') from None

    monkeypatch.setattr(start, 'run', run)
    assert start.main([]) == 0
    assert capsys.readouterr().err == ''


def test_a_signal_that_an_import_swallowed_ends_the_node_before_it_works(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class Swallows:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)  # what is raised in here is dropped

    def make_node(arguments: object) -> None:
        Swallows()

    pytest.importorskip('rclpy')
    monkeypatch.setattr(start, 'make_node', make_node)
    monkeypatch.setattr('anomaly_seg_ros.ros.node.spin', lambda node: pytest.fail('it works'))
    monkeypatch.setattr('rclpy.try_shutdown', lambda: None)  # other tests need it
    assert start.main([]) == 0
    assert capsys.readouterr().err == ''


def test_a_transition_that_a_signal_cut_short_says_nothing() -> None:
    pytest.importorskip('rclpy')
    from anomaly_seg_ros.ros.transitions import logged_transition

    said: list[str] = []
    log = SimpleNamespace(error=said.append)
    node = SimpleNamespace(problem='', get_logger=lambda: log)

    @logged_transition
    def on_configure(node: Any, state: Any) -> NoReturn:
        raise RuntimeError('the context is invalid')

    for alive in (False, True):
        node.context = SimpleNamespace(ok=lambda alive=alive: alive)
        on_configure(node, None)
        assert bool(said) == bool(node.problem) == alive


def test_a_library_that_a_signal_cut_short_is_no_fault_of_a_transition() -> None:
    pytest.importorskip('rclpy')
    from rclpy.lifecycle import TransitionCallbackReturn

    from anomaly_seg_ros.ros.transitions import logged_transition

    node = SimpleNamespace(problem='')

    @logged_transition
    def on_configure(node: Any, state: Any) -> NoReturn:
        raise KeyboardInterrupt from ImportError('as engines say it')

    assert on_configure(node, None) == TransitionCallbackReturn.ERROR
    assert node.problem == ''


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, 'run', lambda *arguments: [][0])
    with pytest.raises(IndexError):
        start.main([])


ONE_LINE: list[tuple[list[str], dict[str, str], str]] = [
    ([*PARAMS, '{broken}'], {}, "parse params file: '--params-file {broken}'"),
    (['--ros-args', '-r', '__node:=front-cam'], {}, "parse remap rule: '-r __node:=front-cam'"),
    (['--ros-args', '-p', 'threshold'], {}, "parse parameter override rule: '-p threshold'"),
    (['--ros-args', '--log-level', 'loud'], {}, "parse log level: '--log-level loud'"),
    (['--ros-args', '--nonsense'], {}, "unknown ROS arguments ['--nonsense']"),
    ([], {'ROS_DOMAIN_ID': 'abc'}, "ROS_DOMAIN_ID is 'abc'"),
    ([], {'HOME': '', 'ROS_LOG_DIR': ''}, 'HOME is not set'),
    ([], {'ROS_LOG_DIR': '{broken}/x'}, 'ROS cannot write its logs'),
    (['--ros-args', '-p', 'cameras:=[]'], {}, 'cameras must be a list of names, one at least; '),
    (['--ros-args', '-p', 'cameras:=front'], {}, 'one at least; write it like [front, left]'),
    (['--ros-args', '-p', 'use_sim_time:=[]'], {}, 'not initialized; write use_sim_time:='),
    (['--ros-args', '-p', 'use_sim_time:=1'], {}, "expecting type 'BOOL'; write true or false"),
    (['--ros-args', '-p', 'threshold:=[]'], {}, 'threshold must be of type float; write it like'),
    (['--ros-args', '-p', 'treshold:=0.5'], {}, "'treshold'; did you mean 'threshold'?"),
]
RUN_ALL = """
import json, os, sys
from anomaly_seg_ros.ros import start
before = dict(os.environ)
for arguments, variables in json.loads(sys.argv[1]):
    os.environ.update(variables)
    status = start.main(arguments)
    os.environ.update(before)
    sys.stderr.write(f'status {status}\\n')
import anomaly_seg_ros.ros.node
anomaly_seg_ros.ros.node.spin = lambda node: None
sys.stderr.write(f'status {start.main(sys.argv[2:])}\\n')
"""


@pytest.mark.ros
@pytest.mark.slow
def test_what_ros_refuses_is_one_line_and_status_2(tmp_path: Path) -> None:
    """Real ROS, and all cases in one process: none of them leaves anything behind."""
    pytest.importorskip('rclpy')
    broken = tmp_path / 'broken.yaml'
    broken.write_text('/**: {ros__parameters: {threshold: [}}')

    other = tmp_path / 'other.yaml'
    other.write_text('anomoly_seg: {ros__parameters: {threshold: 0.5}}')

    def fill(text: str) -> str:
        return text.replace('{broken}', str(broken))

    cases = [
        ([fill(word) for word in arguments], {k: fill(v) for k, v in variables.items()})
        for arguments, variables, _ in ONE_LINE
    ]
    done = subprocess.run(
        [sys.executable, '-c', RUN_ALL, json.dumps(cases), *PARAMS, str(other)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(ONE_LINE) + 2, done.stderr
    assert f"{other} has nothing for '/anomaly_seg'; write this name or '/**'" in lines[-2]
    assert lines.pop() == 'status 0'
    lines.pop()
    for line, status, (*_, words) in zip(lines[::2], lines[1::2], ONE_LINE, strict=True):
        assert line.startswith('anomaly_seg_node: ')
        assert fill(words) in line
        assert '.c:' not in line
        assert status == 'status 2'


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize('seen', ['rclpy', 'openvino'])
def test_two_signals_during_imports_end_it_without_a_word(
    seen: str, exported_checkpoint: Path
) -> None:
    pytest.importorskip(seen)
    command = [sys.executable, '-X', 'importtime', '-m', 'anomaly_seg_ros.ros.start']
    command += ['--ros-args', '-p', f'checkpoint:={exported_checkpoint}']
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    said = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if 'import time:' not in line:
                said.append(line)
            elif line.rpartition('|')[2].strip().startswith(f'{seen}.'):
                break
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    said += [line for line in rest.splitlines() if 'import time:' not in line]
    text = '\n'.join(said)
    assert process.returncode == 0, text
    assert 'Traceback' not in text
    assert 'cannot be loaded' not in text
    assert 'being built' not in text


ENDED = """
import os, signal, sys, threading
import rclpy
from anomaly_seg_ros.ros import node, start

release, make = node.AnomalySegNode.release, node.make_executor

def released(self):
    sys.stderr.write(f'ROS is up: {rclpy.ok()}\\n')
    release(self)

def made(kind):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    return make(kind)

node.AnomalySegNode.release, node.make_executor = released, made
sys.exit(start.main(['--ros-args', '-p', 'autostart:=false']))
"""


@pytest.mark.ros
@pytest.mark.slow
def test_ros_is_up_while_a_signal_ends_the_node() -> None:
    """Or nobody would hear that it ends: not its bond, not who waits for an answer."""
    pytest.importorskip('rclpy')
    done = subprocess.run(
        [sys.executable, '-c', ENDED],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, 'ROS is up: True\n')
