"""Repositories of a hub, fetched by the library's own client from one that this file serves."""

from __future__ import annotations

from collections.abc import Iterator
from fcntl import ioctl
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import pty
import struct
import subprocess
import sys
import termios
from threading import Thread

import pytest
import torch
import transformers

from anomaly_seg_ros.checkpoint.folder import Checkpoint

CONFIGS = json.loads((Path(__file__).with_name('golden') / 'hf_configs.json').read_text())
COMMIT = 'a' * 40


class Hub(ThreadingHTTPServer):
    """Serves each folder of a root as the repository `owner/FOLDER`; what was asked is kept."""

    def __init__(self, root: Path) -> None:
        super().__init__(('127.0.0.1', 0), Answer)
        self.root = root
        self.asked: list[str] = []
        self.weights: dict[str, torch.Tensor] = {}


class Answer(BaseHTTPRequestHandler):
    """The parts of the hub's interface that fetching a repository asks for."""

    server: Hub

    def do_HEAD(self) -> None:
        self.reply()

    def do_GET(self) -> None:
        self.reply()

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def reply(self) -> None:
        path = self.path.partition('?')[0]
        self.server.asked.append(f'{self.command} {path}')
        owner, _, rest = path.removeprefix('/api/models/').lstrip('/').partition('/')
        name, _, what = rest.partition('/')
        folder = self.server.root / name
        if owner != 'owner' or not name or not folder.is_dir():
            self.send(404, b'', {'X-Error-Code': 'RepoNotFound'})
        elif name == 'gated':
            self.send(403, b'', {'X-Error-Code': 'GatedRepo'})
        elif path.startswith('/api/'):
            self.send(200, json.dumps(listing(folder, 'tree' in what)).encode(), {})
        else:
            data = (folder / Path(what).name).read_bytes()
            self.send(200, data, {'X-Repo-Commit': COMMIT, 'ETag': f'"{blob_id(data)}"'})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, 'Content-Length': str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)


def listing(folder: Path, tree: bool) -> object:
    """What the hub says of a repository, or of its files."""
    files = sorted(folder.iterdir())
    if not tree:
        return {'id': f'owner/{folder.name}', 'sha': COMMIT, 'siblings': [], 'tags': []}
    return [
        {'type': 'file', 'path': file.name, 'size': len(data), 'oid': blob_id(data)}
        for file, data in ((file, file.read_bytes()) for file in files)
    ]


def blob_id(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / 'served'
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        **CONFIGS['segformer'], id2label={0: 'road', 1: 'car'}, num_labels=2
    )
    net = transformers.SegformerForSemanticSegmentation(config)
    net.save_pretrained(root / 'net')
    config.save_pretrained(root / 'pickled')
    torch.save(net.state_dict(), root / 'pickled' / 'pytorch_model.bin')
    for name in ('gated', 'words'):
        (root / name).mkdir()
        (root / name / 'README.md').write_text('# Words')
    for name in ('net', 'pickled'):
        (root / name / 'modeling.py').write_text('raise RuntimeError')
    with Hub(root) as server:
        server.weights = net.state_dict()
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def command(hub: Hub, name: str, out: Path) -> tuple[list[str], dict[str, str]]:
    """`import_weights` of a repository, and an environment with this hub and an empty cache."""
    place = f'http://127.0.0.1:{hub.server_port}'
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('HF_', 'HUGGING'))}
    home = {'HF_ENDPOINT': place, 'HF_HOME': str(out.parent / 'home')}
    words = ['import_weights', '--model', f'hf:owner/{name}', '--out', str(out)]
    return [sys.executable, '-m', 'anomaly_seg_ros', *words], {**environment, **home}


@pytest.mark.parametrize('name', ['net', 'pickled'])
def test_a_repository_becomes_a_checkpoint(name: str, hub: Hub, tmp_path: Path) -> None:
    words, environment = command(hub, name, tmp_path / 'out')
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, '')
    network = Checkpoint.open(tmp_path / 'out').network().state_dict()
    assert network.keys() == {f'net.{key}' for key in hub.weights}
    assert all(torch.equal(network[f'net.{key}'], value) for key, value in hub.weights.items())
    assert not any('modeling.py' in line for line in hub.asked)  # no code of theirs
    # What lies in the cache is not fetched again.
    hub.asked.clear()
    again = subprocess.run([*words[:-1], str(tmp_path / 'again')], env=environment, timeout=120)
    assert again.returncode == 0
    assert not any(f'/owner/{name}/resolve/' in line for line in hub.asked)


def test_a_terminal_sees_the_files_come(hub: Hub, tmp_path: Path) -> None:
    words, environment = command(hub, 'net', tmp_path / 'out')
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
    with subprocess.Popen(words, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b''
        while part := read_part(ours):
            seen += part
    os.close(ours)
    assert process.returncode == 0
    assert b'Fetching 2 files: 100%' in seen
    assert seen.rstrip().endswith(f'wrote {tmp_path / "out"}'.encode())


def read_part(terminal: int) -> bytes:
    """Gives what stands there, and nothing at all once the other side is closed."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b''


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('nothing', "HUB has no repository 'owner/nothing' that everybody may read; check the na"),
        ('gated', "HUB has no repository 'owner/gated' that everybody may read; check the name, "),
        ('words', "repository 'owner/words' of HUB has no config.json: none of a network of tr"),
    ],
)
def test_a_repository_that_gives_no_network_is_one_line(
    name: str, message: str, hub: Hub, tmp_path: Path
) -> None:
    words, environment = command(hub, name, tmp_path / 'out')
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert message.replace('HUB', f'127.0.0.1:{hub.server_port}') in done.stderr
    assert not (tmp_path / 'out').exists()


def test_a_hub_that_does_not_answer_is_named(hub: Hub, tmp_path: Path) -> None:
    words, environment = command(hub, 'net', tmp_path / 'out')
    environment['HF_ENDPOINT'] = 'http://127.0.0.1:9'
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "cannot fetch 'owner/net': 127.0.0.1:9 does not answer; where there" in done.stderr
