"""nginx with one worker, buffering off, upstream connections kept: the practical limit of relaying."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks import machine
from benchmarks.peers import Running

# Debian keeps it in /usr/sbin, which is not on every user's path.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream model {{
        server {upstream};
        keepalive 1024;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


class Nginx:
    name = "nginx"
    telemetry = "nothing"
    slow = False

    def missing(self) -> str:
        return "" if NGINX else "nginx: apt-get install nginx-light, or brew install nginx"

    @contextlib.contextmanager
    def start(self, upstream: str, cores: machine.Cores, directory: Path) -> Iterator[Running]:
        assert NGINX is not None
        port = machine.free_port()
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(directory=directory, upstream=upstream, port=port), encoding="utf-8"
        )
        command = [NGINX, "-c", str(configuration), "-e", "stderr"]
        with machine.process(command, cores.proxy, log=directory / "nginx.log") as started:
            machine.wait_listening(port, started)
            (worker,) = psutil.Process(started.pid).children()
            yield Running(f"127.0.0.1:{port}", {"worker": worker.pid}, {"master": started.pid})
