"""Who is let in at the bench: one host for each method, all to the same backend, and credentials that are good.

What Python's standard library cannot do (ECDSA) is done by the `cryptography` package; bcrypt by `htpasswd`.
"""

import base64
import datetime
import hashlib
import hmac
import json
import subprocess

from harness.hale import hale_object, hale_slice

OPEN, KEY, JWT, SIGNED, BASIC, FLOOD, TIMING = [
    f"{name}.bench.example" for name in ["open", "key", "jwt", "signed", "basic", "flood", "timing"]
]
ISSUER, AUDIENCE = "https://id.bench.example", "bench"
ACCESS_KEY, SECRET_KEY = "AKBENCH", "a secret of the bench"
API_KEY, USER, PASSWORD = "k-0123456789abcdef0123456789abcdef", "ann", "correct horse"
REGION, SERVICE = "local", "bench"


def documents(jwks, port, timing_cost):
    """Everything that `hale serve` reads."""
    service = hale_object(
        "v1", "Service", "bench", spec={"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    )
    found = [service, hale_slice(0, port), ingress(OPEN)]
    secrets = {
        "keys": {"bench": API_KEY},
        # Cost 10, which is what the flood is about; the timing run compares medians of many, so it is cheaper.
        "users": {"auth": htpasswd(10)},
        "timed": {"auth": htpasswd(timing_cost)},
        "signer": {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY, "consumer": "bench"},
    }
    for name, data in secrets.items():
        secret = hale_object("v1", "Secret", name, stringData=data)
        secret["metadata"]["labels"] = {"bench": name}
        found.append(secret)
    found.append(hale_object("v1", "ConfigMap", "issuer", data={"jwks.json": json.dumps(jwks)}))
    methods = {
        KEY: {"apiKey": {"header": "X-Api-Key", "secretRef": {"name": "keys"}}},
        JWT: {
            "jwt": {
                "issuer": ISSUER,
                "audiences": [AUDIENCE],
                "algorithms": ["ES256"],
                "jwks": {"configMapRef": {"name": "issuer"}},
            }
        },
        SIGNED: {"accessKey": {"profile": "AWS4", "secretSelector": {"matchLabels": {"bench": "signer"}}}},
        BASIC: {"basic": {"secretRef": {"name": "users"}}},
        FLOOD: {"basic": {"secretRef": {"name": "users"}}},
        TIMING: {"basic": {"secretRef": {"name": "timed"}}},
    }
    for host, method in methods.items():
        found += [ingress(host), policy(host, method)]
    return found


def name_of(host):
    return host.partition(".")[0]


def ingress(host):
    backend = {"service": {"name": "bench", "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec = {"ingressClassName": "hale", "rules": [{"host": host, "http": {"paths": [path]}}]}
    return hale_object("networking.k8s.io/v1", "Ingress", name_of(host), spec=spec)


def policy(host, method):
    target = {"group": "networking.k8s.io", "kind": "Ingress", "name": name_of(host)}
    spec = {"targetRefs": [target], "auth": {"anyOf": [method]}}
    return hale_object("hale-ingress.io/v1alpha1", "UpstreamPolicy", name_of(host), spec=spec)


def htpasswd(cost):
    command = ["htpasswd", "-nbBC", str(cost), USER, PASSWORD]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() + "\n"


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def unpadded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens with ES256."""

    def __init__(self):
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP256R1())
        self.head = unpadded(json.dumps({"alg": "ES256", "kid": "bench"}).encode())

    def jwks(self):
        numbers = self.key.public_key().public_numbers()
        point = {axis: unpadded(getattr(numbers, axis).to_bytes(32, "big")) for axis in "xy"}
        return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "bench", **point}]}

    def tokens(self, count, expires):
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        algorithm = ec.ECDSA(hashes.SHA256())
        for number in range(count):
            claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": expires, "jti": number}
            text = self.head + "." + unpadded(json.dumps(claims).encode())
            numbers = decode_dss_signature(self.key.sign(text.encode(), algorithm))
            signature = b"".join(number.to_bytes(32, "big") for number in numbers)
            yield text + "." + unpadded(signature)


def signed(path, query, host):
    """The lines that sign a GET with AWS Signature Version 4; as the documentation of AWS has it, step by step."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    empty = hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    headers = f"host:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{stamp}\n"
    canonical = "\n".join(["GET", path, query, headers, names, empty])
    scope = f"{day}/{REGION}/{SERVICE}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + SECRET_KEY).encode()
    for part in [day, REGION, SERVICE, "aws4_request"]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {
        "x-amz-date": stamp,
        "x-amz-content-sha256": empty,
        "authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}",
    }


# wrk asks for each request; all methods are asked for in the same way, so that the client costs the same.
LUA = """
local requests, at = {}, 0
init = function()
  for line in io.lines("%s") do
    requests[#requests + 1] = line:gsub("\\t", "\\r\\n") .. "\\r\\n\\r\\n"
  end
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
"""


def write_requests(folder, name, requests):
    """A script for wrk that sends these (host, target, lines), one after another."""
    listed = folder / f"{name}.requests"
    with open(listed, "w") as file:
        for host, target, lines in requests:
            head = [f"GET {target} HTTP/1.1", f"Host: {host}"]
            head += [f"{key}: {value}" for key, value in lines.items()]
            file.write("\t".join(head) + "\n")
    script = folder / f"{name}.lua"
    script.write_text(LUA % listed)
    return script
