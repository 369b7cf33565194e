"""The proxies, each configured to do the same work.

The same work is: plain HTTP/1.1 with keep-alive on both sides, three peers, the less loaded of two
random ones, a retry on another peer (2 more tries; connect errors, resets, 502, 503, 504), an active
check of GET /healthz every 5 s where the proxy has one, connect 1 s and response 60 s timeouts, a
request id of 128 random bits, X-Forwarded-For, -Proto, -Host, -Port, X-Real-IP, Forwarded and Via set
(never passed through from the client), and a JSON access log with the same fields to a file.
One worker each.
"""

import json

from harness.backend import nginx_folders, nginx_user

HOST = "bench.example"
HEALTH = "/healthz"


class Peer:
    """One proxy: `prepare` writes its files into a folder and returns the command that runs it there."""

    name = ""
    active_check = True

    def __init__(self, program):
        self.program = program


class Nginx(Peer):
    name = "nginx"
    # The open source edition has passive checks alone.
    active_check = False

    def prepare(self, folder, port, backends):
        log = ",".join(
            f'"{key}":{value}'
            for key, value in {
                "time": '"$time_iso8601"',
                "client": '"$remote_addr"',
                "method": '"$request_method"',
                "host": '"$host"',
                "path": '"$uri"',
                "version": '"$server_protocol"',
                "status": "$status",
                "bytes_in": "$request_length",
                "bytes_out": "$body_bytes_sent",
                "duration": "$request_time",
                "request_id": '"$request_id"',
                "route": '"bench"',
                "upstream": '"$proxy_host"',
                "user_agent": '"$http_user_agent"',
                "peer": '"$upstream_addr"',
                "outcome": '"$upstream_status"',
            }.items()
        )
        servers = "\n".join(f"    server 127.0.0.1:{p} max_fails=3 fail_timeout=5s;" for p in backends)
        text = f"""
daemon off;
{nginx_user()}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  {nginx_folders(folder)}
  log_format json escape=json '{{{log}}}';
  access_log {folder}/access.log json buffer=64k flush=100ms;
  keepalive_requests 100000000;
  keepalive_timeout 60s;
  client_header_timeout 60s;
  upstream bench {{
    random two least_conn;
{servers}
    keepalive 64;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    server_name {HOST};
    location / {{
      proxy_pass http://bench;
      proxy_http_version 1.1;
      proxy_connect_timeout 1s;
      proxy_read_timeout 60s;
      proxy_next_upstream error timeout http_502 http_503 http_504;
      proxy_next_upstream_tries 3;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Request-ID $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header Forwarded "for=$remote_addr;proto=$scheme";
      proxy_set_header Via "1.1 nginx";
      add_header Via "1.1 nginx" always;
    }}
  }}
}}
"""
        (folder / "nginx.conf").write_text(text)
        return [self.program, "-e", folder / "error.log", "-c", folder / "nginx.conf"]


class Haproxy(Peer):
    name = "haproxy"

    def prepare(self, folder, port, backends):
        log = ",".join(
            f'"{key}":{value}'
            for key, value in {
                "time": "%Ts.%ms",
                "client": '"%ci"',
                "method": '"%HM"',
                "host": '"%[capture.req.hdr(0),json(utf8s)]"',
                "path": '"%[capture.req.uri,json(utf8s)]"',
                "version": '"%HV"',
                "status": "%ST",
                "bytes_in": "%U",
                "bytes_out": "%B",
                "duration": "%Ta",
                "request_id": '"%ID"',
                "route": '"%f"',
                "upstream": '"%b"',
                "user_agent": '"%[capture.req.hdr(1),json(utf8s)]"',
                "peer": '"%si:%sp"',
                "retries": '"%rc"',
                "outcome": '"%ts"',
            }.items()
        )
        servers = "\n".join(
            f"  server b{p} 127.0.0.1:{p} check inter 5s fall 3 rise 2 pool-max-conn 64" for p in backends
        )
        text = f"""
global
  nbthread 1
  maxconn 8192
  log stdout format raw local0

defaults
  mode http
  log global
  option dontlognull
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout http-request 60s
  timeout http-keep-alive 60s

frontend bench
  bind 127.0.0.1:{port} backlog 4096
  unique-id-format %[uuid()]
  http-request capture req.hdr(host) len 64
  http-request capture req.hdr(user-agent) len 128
  http-request set-header X-Request-ID %[unique-id]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  http-request set-header Forwarded for=%[src];proto=http
  http-request set-header Via "1.1 haproxy"
  http-response set-header Via "1.1 haproxy"
  log-format '{{{log}}}'
  use_backend bench if {{ hdr(host) {HOST} }}

backend bench
  balance random(2)
  http-reuse always
  retries 2
  option redispatch 1
  retry-on conn-failure empty-response response-timeout 502 503 504
  option httpchk GET {HEALTH}
  http-check expect rstatus ^[23]
{servers}
"""
        (folder / "haproxy.cfg").write_text(text)
        return [self.program, "-db", "-f", folder / "haproxy.cfg"]


class Envoy(Peer):
    name = "envoy"

    def prepare(self, folder, port, backends):
        route = {
            "match": {"prefix": "/"},
            "route": {
                "cluster": "bench",
                "timeout": "60s",
                "retry_policy": {
                    "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
                    "retriable_status_codes": [502, 503, 504],
                    "num_retries": 2,
                    "retry_host_predicate": [
                        {
                            "name": "previous",
                            "typed_config": {
                                "@type": f"{EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                            },
                        }
                    ],
                    "host_selection_retry_max_attempts": 3,
                },
            },
        }
        headers = {
            "X-Forwarded-Host": "%REQ(:authority)%",
            "X-Forwarded-Port": str(port),
            "X-Real-IP": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            "Forwarded": "for=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;proto=http",
        }
        manager = {
            "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "use_remote_address": True,
            "via": "1.1 envoy",
            "generate_request_id": True,
            "common_http_protocol_options": {"idle_timeout": "60s"},
            "request_headers_timeout": "60s",
            "access_log": [
                {
                    "name": "file",
                    "typed_config": {
                        "@type": f"{EXTENSIONS}.access_loggers.file.v3.FileAccessLog",
                        "path": str(folder / "access.log"),
                        "log_format": {"json_format": ENVOY_LOG},
                    },
                }
            ],
            "http_filters": [
                {
                    "name": "router",
                    "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
                }
            ],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "bench",
                        "domains": [HOST],
                        "routes": [route],
                        "request_headers_to_add": [
                            {
                                "header": {"key": key, "value": value},
                                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                            }
                            for key, value in headers.items()
                        ],
                    }
                ]
            },
        }
        endpoints = [{"endpoint": {"address": address(p)}} for p in backends]
        cluster = {
            "name": "bench",
            "type": "STATIC",
            "lb_policy": "LEAST_REQUEST",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "bench", "endpoints": [{"lb_endpoints": endpoints}]},
            "health_checks": [
                {
                    "interval": "5s",
                    "timeout": "2s",
                    "unhealthy_threshold": 3,
                    "healthy_threshold": 2,
                    "http_health_check": {"path": HEALTH, "expected_statuses": [{"start": 200, "end": 400}]},
                }
            ],
        }
        filters = [{"name": "http", "typed_config": manager}]
        listener = {"name": "bench", "address": address(port), "filter_chains": [{"filters": filters}]}
        text = json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1)
        (folder / "envoy.json").write_text(text)
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
        return [self.program, *options, "-c", folder / "envoy.json"]


EXTENSIONS = "type.googleapis.com/envoy.extensions"
ENVOY_LOG = {
    "time": "%START_TIME%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "version": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "user_agent": "%REQ(USER-AGENT)%",
    "peer": "%UPSTREAM_HOST%",
    "retries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "outcome": "%RESPONSE_FLAGS%",
}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
