"""The origin: an nginx that answers from memory, and what any nginx needs to run as this user."""

import os
import shutil


def backend_config(folder, ports, listen_on="127.0.0.1", body="x" * 100):
    """An nginx that answers from memory, whatever is asked."""
    listen = "\n".join(f"    listen {listen_on}:{port} backlog=4096;" for port in ports)
    text = f"""
daemon off;
{nginx_user()}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/backend.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  {nginx_folders(folder)}
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 75s;
  default_type text/plain;
  server {{
{listen}
    location / {{ return 200 "{body}"; }}
  }}
}}
"""
    (folder / "backend.conf").write_text(text)
    return ["-e", folder / "error.log", "-c", folder / "backend.conf"]


def nginx_user():
    # The worker of a master that is root becomes somebody else, who may not read the folder.
    return "user root;" if os.getuid() == 0 else ""


def nginx_folders(folder):
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    return "\n  ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def find(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
